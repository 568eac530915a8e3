import path from 'node:path'
import { parseSync, Visitor } from 'rolldown/utils'
import type { Use } from './rules.ts'

/** What one file reaches for. */
export interface Reference {
  readonly line: number
  /** A file of the project, a package with its path, or `node:NAME`. */
  readonly imported?: string
  readonly used?: Use
}

/** Everything that a source file imports (types, re-exports, workers and `import()` too) and the guarded names that it uses. */
export function referencesOf(file: string, source: string): Reference[] {
  const parsed = parseSync(file, source)
  if (parsed.errors.length > 0) throw new Error(`${file}: ${parsed.errors[0]?.message}`)
  const found: Reference[] = []
  const lineOf = (node: { start: number }) => source.slice(0, node.start).split('\n').length
  const use = (node: { start: number }, used: Use) => found.push({ line: lineOf(node), used })
  const imported = (node: { start: number }, specifier: unknown) => {
    if (typeof specifier !== 'string') return
    found.push({ line: lineOf(node), imported: resolved(file, specifier) })
  }
  new Visitor({
    ImportDeclaration(node) {
      imported(node, node.source.value)
      // import { env } from 'node:process' is process.env by another name
      if (resolved(file, node.source.value) !== 'node:process') return
      for (const one of node.specifiers) {
        const name = one.type === 'ImportSpecifier' && one.imported.type === 'Identifier' ? one.imported.name : ''
        if (name === 'env') use(one, 'process.env')
        if (name === 'exit') use(one, 'process.exit')
      }
    },
    ExportNamedDeclaration: (node) => imported(node, node.source?.value),
    ExportAllDeclaration: (node) => imported(node, node.source.value),
    ImportExpression: (node) => imported(node, node.source.type === 'Literal' ? node.source.value : undefined),
    TSImportType: (node) => imported(node, node.source.value),
    MemberExpression(node) {
      const name = dotted(node)
      const used = DOTTED[name.replace(/^(globalThis|global)\./, '')]
      if (used !== undefined) use(node, used)
      if (/^(globalThis\.)?console\./.test(name)) use(node, 'console')
    },
    Identifier(node) {
      if (ZSTD_THREADS.test(node.name)) use(node, 'zstd threads')
      if (ZSTD.test(node.name)) use(node, 'zstd')
    },
    Literal(node) {
      if (ZSTD_THREADS.test(String(node.value))) use(node, 'zstd threads')
      if (ZSTD.test(String(node.value))) use(node, 'zstd')
    },
    TemplateElement(node) {
      if (ZSTD_THREADS.test(node.value.raw)) use(node, 'zstd threads')
    },
    CallExpression(node) {
      const callee = node.callee.type === 'Identifier' ? node.callee.name : dotted(node.callee)
      const first = node.arguments[0]
      const literal = first?.type === 'Literal' ? first.value : undefined
      if (callee === 'require' || callee === 'import.meta.resolve') imported(node, literal)
      const plain = callee.replace(/^(globalThis|global)\./, '')
      if (plain === 'setTimeout' || plain === 'setInterval' || plain === 'eval') use(node, plain)
      if (plain === 'Function') use(node, 'new Function')
      if (plain === 'Date') use(node, 'new Date()')
    },
    NewExpression(node) {
      const callee = node.callee.type === 'Identifier' ? node.callee.name : ''
      if (callee === 'Date' && node.arguments.length === 0) use(node, 'new Date()')
      if (callee === 'Function') use(node, 'new Function')
      const [first, second] = node.arguments
      // new URL('./worker.ts', import.meta.url)
      const relative = first?.type === 'Literal' && typeof first.value === 'string' && first.value.startsWith('.')
      if (callee === 'URL' && relative && second !== undefined && dotted(second) === 'import.meta.url')
        imported(node, first.value)
    },
    Property(node) {
      const name = node.key.type === 'Identifier' ? node.key.name : node.key.type === 'Literal' ? node.key.value : ''
      const isFalse = node.value.type === 'Literal' && node.value.value === false
      if (name === 'shell' && !node.computed && !isFalse) use(node, 'shell option')
      // { params: { 400: 2 } }: the constant by its number
      if (name !== 'params' || node.value.type !== 'ObjectExpression') return
      for (const one of node.value.properties)
        if (one.type === 'Property' && one.key.type === 'Literal' && /^40[0-2]$/.test(String(one.key.value)))
          use(one, 'zstd threads')
    },
    CatchClause(node) {
      if (node.body.body.length === 0 && !/\/\/|\/\*/.test(source.slice(node.body.start, node.body.end))) use(node, 'empty catch')
    },
  }).visit(parsed.program)
  return found
}

/** The parameters of zstd's own threads, and the same as options of tools that compress with it (`--compress=client-zstd:workers=2`). */
const ZSTD_THREADS = /ZSTD_c_(nbWorkers|jobSize|overlapLog)|zstd:.*workers=/
/** What node:zlib calls what compresses and decompresses with it. */
const ZSTD = /^(createZ|z|Z)std(Compress|Decompress)(Sync)?$/

const DOTTED: Readonly<Record<string, Use>> = {
  'process.env': 'process.env',
  'process.exit': 'process.exit',
  'Date.now': 'Date.now',
  'performance.now': 'performance.now',
  'Math.random': 'Math.random',
}

/** `a.b.c` of a chain of names, `a["b"]` included; empty for anything else. */
function dotted(node: unknown): string {
  const at = node as {
    type: string
    name?: string
    value?: unknown
    object?: unknown
    property?: { name?: string; value?: unknown }
    computed?: boolean
  }
  if (at.type === 'Identifier') return at.name ?? ''
  if (at.type === 'MetaProperty') return 'import.meta'
  if (at.type !== 'MemberExpression') return ''
  const key = at.computed ? at.property?.value : at.property?.name
  const object = dotted(at.object)
  return object === '' || typeof key !== 'string' ? '' : `${object}.${key}`
}

const BUILT_IN = new Set(process.getBuiltinModule('node:module').builtinModules)

function resolved(file: string, specifier: string): string {
  if (specifier.startsWith('.')) return path.posix.join(path.posix.dirname(file), specifier)
  return !specifier.startsWith('node:') && BUILT_IN.has(specifier) ? `node:${specifier}` : specifier
}
