import { readFile } from 'node:fs/promises'
import { engineFor } from '../../agent/engines/registry.ts'
import { testRun } from '../../agent/engines/testing/run.ts'
import { objectKey } from '../../shared/manifest/layout.ts'
import type { ObjectSink } from '../../shared/repository/repository.ts'
import { TestFleet } from '../../shared/repository/testing/fleet.ts'
import { openWriter } from '../../shared/repository/writer.ts'
import { openStore } from '../../shared/storage/registry.ts'

// One full backup the way a job's process makes it: an engine, the repository's writer, a store; but to a local folder without
// a control plane, whose round trips for addresses and commit are left out. Argument: a JSON file.
interface Task {
  readonly engine: string
  readonly config: unknown
  readonly store: string
}

const task = JSON.parse(await readFile(process.argv[2] ?? '', 'utf8')) as Task
const engine = engineFor(task.engine)
const store = await openStore(task.store, { create: true })
const fleet = await TestFleet.create()
const backup = fleet.place(1)
const objects: ObjectSink = {
  put: (name, bytes, sha256, signal) => store.put(objectKey(backup, name), bytes, { sha256, signal }),
}
const run = await testRun()
const writer = await openWriter(fleet.options(backup, { engine: task.engine, objects, scratch: run.scratch }))
try {
  const plan = { action: 'backup', config: engine.config.parse(task.config), type: 'full', parts: [] } as const
  const fingerprint = await engine.backup(plan, writer, run)
  await writer.finish(fingerprint)
  console.log(JSON.stringify(writer.totals))
} finally {
  await writer.close()
  await run.dispose()
  await store.close()
}
