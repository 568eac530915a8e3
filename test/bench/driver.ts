import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { engineFor } from '../../agent/engines/registry.ts'
import { testRun } from '../../agent/engines/testing/run.ts'
import { createTransfer, type Transfer } from '../../agent/transfer/transfer.ts'
import { systemClock } from '../../shared/clock.ts'
import type { SignedRequest } from '../../shared/generated/holdfast/agent/v1/objects.ts'
import { createLogger } from '../../shared/log.ts'
import { objectKey } from '../../shared/manifest/layout.ts'
import { TestFleet } from '../../shared/repository/testing/fleet.ts'
import { openWriter } from '../../shared/repository/writer.ts'
import { Secret } from '../../shared/secret.ts'
import { openLocal } from '../../shared/storage/local/target.ts'
import type { Served } from './target-server.ts'

// One full backup the way a job's process makes it: an engine, the repository's writer, and the agent's transfer to the HTTPS server of a local target
// in another process. Without a control plane, whose round trips for addresses and commit are left out. Argument: a JSON file.
interface Task {
  readonly engine: string
  readonly config: unknown
  readonly store: string
}

const task = JSON.parse(await readFile(process.argv[2] ?? '', 'utf8')) as Task
const engine = engineFor(task.engine)
const server = fork(path.join(import.meta.dirname, 'target-server.ts'), [task.store])
const fleet = await TestFleet.create()
const backup = fleet.place(1)
const objects = await transferTo(server)
const run = await testRun()
const writer = await openWriter(fleet.options(backup, { engine: task.engine, objects, scratch: run.scratch }))
try {
  const plan = { action: 'backup', config: engine.config.parse(task.config), type: 'full', parts: [] } as const
  const fingerprint = await engine.backup(plan, writer, run)
  await writer.finish(fingerprint)
  console.log(JSON.stringify(writer.totals))
} finally {
  await writer.close()
  await objects.close()
  await run.dispose()
  server.disconnect()
}

async function transferTo(process: ChildProcess): Promise<Transfer> {
  const [served] = (await once(process, 'message')) as [Served]
  const signer = {
    baseUrl: `https://127.0.0.1:${served.port}`,
    key: new Secret(Buffer.from(served.key, 'hex')),
    serverCertificateSha256: Buffer.from(served.certificateSha256, 'hex'),
    clock: systemClock,
  }
  const target = await openLocal(task.store, { name: 'primary', clock: systemClock, create: true, signer })
  const signPut = async ({ name, size, sha256 }: { name: string; size: number; sha256: Buffer }): Promise<SignedRequest> => {
    const {
      headers,
      serverCertificateSha256 = Buffer.alloc(0),
      ...address
    } = await target.signPut(objectKey(backup, name), {
      size,
      sha256,
    })
    return { ...address, headers: { ...headers }, serverCertificateSha256, alreadyStored: false }
  }
  return createTransfer({
    signPuts: (wanted) => Promise.all(wanted.map(signPut)),
    signGets: async () => [],
    clock: systemClock,
    log: createLogger({ level: 'silent' }),
  })
}
