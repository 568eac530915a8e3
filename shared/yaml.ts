import { type Document, LineCounter, type ParsedNode, parseDocument } from 'yaml'
import { type ErrorCode, HoldfastError } from './errors.ts'

/**
 * A YAML file that a person wrote. What is wrong with it is said on one line, with the line and the column: errors go to terminals and logs that
 * take one line, and the lines of the file, which a parser would show beside it, may hold a password.
 */
export interface YamlFile {
  /** How errors name it. */
  readonly name: string
  readonly text: string
  /** Of errors; `invalid_config` unless said. */
  readonly code?: ErrorCode
  /** How often aliases may be used; none unless said: nested ones grow a small file to any size. */
  readonly aliases?: number
}

/** Throws. With its comments and its layout, for whoever writes it back. */
export function yamlDocument({ name, text, code = 'invalid_config' }: YamlFile): Document.Parsed<ParsedNode> {
  const lineCounter = new LineCounter()
  const document = parseDocument(text, { uniqueKeys: true, prettyErrors: false, lineCounter })
  const [problem] = document.errors
  if (!problem) return document
  const { line, col } = lineCounter.linePos(problem.pos[0])
  throw new HoldfastError(code, `${name} is not valid YAML: line ${line}, column ${col}: ${problem.message}`, {
    hint: 'Correct the file at that place.',
  })
}

/** Throws. Of nothing but comments, null. */
export function readYaml(file: YamlFile): unknown {
  const { name, code = 'invalid_config', aliases = 0 } = file
  try {
    return yamlDocument(file).toJS({ maxAliasCount: aliases })
  } catch (cause) {
    if (!(cause instanceof ReferenceError)) throw cause
    const what = aliases === 0 ? 'uses YAML aliases (&name, *name), which are not allowed' : 'uses YAML aliases in a wrong way'
    throw new HoldfastError(code, `${name} ${what}`, { hint: 'Write the repeated settings out at each place.', cause })
  }
}
