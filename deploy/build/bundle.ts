import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { rolldown } from 'rolldown'

const ROOT = path.resolve(import.meta.dirname, '../..')

/**
 * Programs of ours, each with all that it needs in one file and what it loads later beside it, in `folder`: Node finds 350 files one by one, and 10 at once, so that a
 * process starts in half of the time. `programs`: the name of each file, without `.mjs`, and its source, from the project's root. A source knows itself where it lies, so that
 * what it starts beside itself (threads, helpers) is found there. Throws what the bundler does.
 */
export async function bundle(programs: Readonly<Record<string, string>>, folder: string): Promise<void> {
  const made = await rolldown({
    input: Object.fromEntries(Object.entries(programs).map(([name, source]) => [name, path.join(ROOT, source)])),
    platform: 'node',
    // it loads a library of its own from where it is
    external: ['koffi'],
    // what both imports at once and later is there at once
    checks: { ineffectiveDynamicImport: false },
    plugins: [
      { name: 'own place', load: (id) => knowingItsPlace(id) },
      { name: 'TLS where it is used', load: (id) => askingLater(id) },
    ],
  })
  try {
    await made.write({ dir: folder, format: 'esm', entryFileNames: '[name].mjs', chunkFileNames: '[name]-[hash].mjs' })
  } finally {
    await made.close()
  }
}

/**
 * Packages ask for TLS as soon as they are loaded, 50 ms of a start: undici by way of HTTP/2, which no job of ours speaks, and the client of PostgreSQL, whose sockets we make. It is asked for where it
 * would be used.
 */
const LATER = [
  {
    in: '/undici/lib/dispatcher/client.js',
    now: "const connectH2 = require('./client-h2.js')",
    later: "const connectH2 = (...given) => require('./client-h2.js')(...given)",
  },
  {
    in: '/postgres/src/connection.js',
    now: "import tls from 'tls'",
    later: "const tls = { connect: (...given) => process.getBuiltinModule('node:tls').connect(...given) }",
  },
]

async function askingLater(id: string): Promise<string | null> {
  const change = LATER.find((one) => id.endsWith(one.in))
  if (!change) return null
  const code = await readFile(id, 'utf8')
  if (!code.includes(change.now)) throw new Error(`${id} does not say ${change.now}`)
  return code.replace(change.now, change.later)
}

async function knowingItsPlace(id: string): Promise<{ code: string; moduleType: 'ts' } | null> {
  if (!id.endsWith('.ts') || id.includes('node_modules')) return null
  const code = await readFile(id, 'utf8')
  return { code: code.replaceAll('import.meta.url', JSON.stringify(pathToFileURL(id).href)), moduleType: 'ts' }
}
