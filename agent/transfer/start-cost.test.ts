import path from 'node:path'
import { expect, test } from 'vitest'
import { bundled } from '../../test/harness/bundled.ts'
import { runCommand } from '../../test/harness/commands.ts'

/** Forty answers of a server at a socket in the same process, as a restore of half a gigabyte has. */
const FORTY_ANSWERS = `
  import { createServer } from 'node:http'
  import { tmpdir } from 'node:os'
  import { cachedDataVersionTag } from 'node:v8'
  import { mkdtempSync, rmSync } from 'node:fs'
  const [, connectionsModule, requestModule] = process.argv
  const { Connections } = await import(connectionsModule)
  const { request } = await import(requestModule)
  const before = cachedDataVersionTag()
  const folder = mkdtempSync(tmpdir() + '/answers-')
  const localSocket = folder + '/socket'
  const server = createServer((_, answer) => answer.end('an answer'))
  await new Promise((resolve) => server.listen(localSocket, resolve))
  const connections = new Connections()
  const way = connections.to({ origin: '', pin: Buffer.alloc(0), localSocket })
  let answers = 0
  for (let n = 0; n < 40; n++) {
    const taken = { take: () => void answers++ }
    await request('http://localhost/' + n, { ...way, method: 'GET', headers: {}, body: null, signal: new AbortController().signal }, () => taken)
  }
  await connections.close()
  server.close()
  rmSync(folder, { recursive: true })
  console.log('answers', answers)
  console.log('flags as before', cachedDataVersionTag() === before)
`

test('of what reads answers V8 compiles nothing twice for the answers of a job', async () => {
  // Node takes types out of sources by WebAssembly of its own
  const folder = await bundled({ connections: 'agent/transfer/connections.ts', request: 'agent/transfer/request.ts' })
  const modules = ['connections.mjs', 'request.mjs'].map((file) => path.join(folder, file))
  const flags = ['--trace-wasm-compilation-times', '--wasm-sync-tier-up']
  const said = await runCommand(process.execPath, [...flags, '--input-type=module', '--eval', FORTY_ANSWERS, ...modules])
  expect(said).toContain('using Liftoff')
  expect(said).not.toContain('using TurboFan')
  expect(said).toContain('answers 40')
  expect(said).toContain('flags as before true')
})

test.each([
  ['what moves objects', 'agent/transfer/transfer.ts'],
  ['the engine of PostgreSQL', 'agent/engines/postgres/work.ts'],
])('%s loads neither TLS nor HTTP/2 before it needs them', async (_what, source) => {
  const program = path.join(await bundled({ program: source }), 'program.mjs')
  const asked = `await import(${JSON.stringify(program)}); console.log(process.moduleLoadList.join('\\n'))`
  const loaded = (await runCommand(process.execPath, ['--input-type=module', '--eval', asked])).split('\n')
  expect(loaded).toContain('NativeModule net')
  expect(loaded.filter((name) => /NativeModule (tls|http2|https)$/.test(name))).toEqual([])
})
