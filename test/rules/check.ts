import { glob, readFile } from 'node:fs/promises'
import path from 'node:path'
import picomatch from 'picomatch'
import { type Reference, referencesOf } from './references.ts'
import { RULES, type Rule } from './rules.ts'

export interface Breach {
  readonly file: string
  readonly line: number
  readonly rule: string
  readonly what: string
  readonly why: string
}

/** Every breach of RULES in one file's text. `file` is its path from the project's root. */
export function breachesOf(file: string, source: string, rules: readonly Rule[] = RULES): Breach[] {
  const held = rules.filter((rule) => matches(rule.files, file) && !matches(rule.except, file))
  if (held.length === 0) return []
  return referencesOf(file, source).flatMap((reference) =>
    held
      .filter((rule) => breaks(rule, file, reference))
      .map((rule) => ({
        file,
        line: reference.line,
        rule: rule.name,
        what: reference.imported ?? reference.used ?? '',
        why: rule.why,
      })),
  )
}

function breaks(rule: Rule, file: string, reference: Reference): boolean {
  if (reference.used !== undefined) return rule.uses?.includes(reference.used) ?? false
  const target = reference.imported ?? ''
  if (!matches(rule.imports, target)) return false
  const own = rule.butNot?.includes('SAME FOLDER') && unitOf(target) === unitOf(file)
  return !own && !matches(rule.butNot, target)
}

/** The folder of an engine, a target: its first three names (`agent/engines/postgres`). */
function unitOf(file: string): string {
  return file.split('/').slice(0, 3).join('/')
}

const compiled = new Map<readonly string[], (file: string) => boolean>()

function matches(patterns: readonly string[] | undefined, file: string): boolean {
  if (patterns === undefined) return false
  let test = compiled.get(patterns)
  if (test === undefined) compiled.set(patterns, (test = picomatch([...patterns])))
  return test(file)
}

/** The files of the project that the rules are about: its own, not what is generated. */
export async function sourceFiles(root: string): Promise<string[]> {
  const files: string[] = []
  for (const pattern of ['*.ts', '{agent,control-plane,shared,proto,test,deploy}/**/*.{ts,tsx,mts,mjs,js}']) {
    for await (const file of glob(pattern, { cwd: root })) files.push(file.split(path.sep).join('/'))
  }
  return files.filter((file) => !/^shared\/generated\/|(^|\/)node_modules\//.test(file)).sort()
}

/** A file that outgrows this is several phases: one phase, one file. */
const MOST_LINES = 400
const MOST_LINES_OF_A_SUITE = 500

function tooLong(file: string, source: string): Breach[] {
  const lines = source.split('\n').length - 1
  const most = file.endsWith('.test.ts') ? MOST_LINES_OF_A_SUITE : MOST_LINES
  if (lines <= most) return []
  return [
    {
      file,
      line: lines,
      rule: 'length of a file',
      what: `${lines} lines`,
      why: `One phase, one file, and at most ${most} lines.`,
    },
  ]
}

export async function checkProject(root: string): Promise<Breach[]> {
  const breaches: Breach[] = []
  for (const file of await sourceFiles(root)) {
    const source = await readFile(path.join(root, file), 'utf8')
    breaches.push(...tooLong(file, source), ...breachesOf(file, source))
  }
  return breaches
}

if (import.meta.main) {
  const breaches = await checkProject(path.resolve(import.meta.dirname, '../..'))
  for (const { file, line, rule, what, why } of breaches) console.error(`${file}:${line}  ${what}\n    ${rule}. ${why}`)
  process.exitCode = breaches.length > 0 ? 1 : 0
}
