import { readFile, writeFile } from 'node:fs/promises'
import { engineFor } from '../../agent/engines/registry.ts'
import { testRun } from '../../agent/engines/testing/run.ts'
import { TestFleet } from '../../shared/repository/testing/fleet.ts'
import { openWriter } from '../../shared/repository/writer.ts'
import { transferTo } from './target-line.ts'
import type { Served } from './target-server.ts'

// One full backup the way a job's process makes it: an engine, the repository's writer, and the agent's transfer to the HTTPS server of a local target
// in another process. Without a control plane, whose round trips for addresses and commit are left out. Argument: a JSON file.
interface Task {
  readonly engine: string
  readonly config: unknown
  readonly store: string
  /** The server of the local target, which a control plane runs already when a job begins. */
  readonly served: Served
  /** Where what opens the backup is left, for restore-driver.ts. */
  readonly opened: string
}

const task = JSON.parse(await readFile(process.argv[2] ?? '', 'utf8')) as Task
const engine = engineFor(task.engine)
const fleet = await TestFleet.create()
const backup = fleet.place(1)
const objects = await transferTo(task.served, task.store, backup)
const run = await testRun()
const options = fleet.options(backup, { engine: task.engine, objects, scratch: run.scratch })
const writer = await openWriter(options)
try {
  const plan = { action: 'backup', config: engine.config.parse(task.config), type: 'full', parts: [] } as const
  const fingerprint = await engine.backup(plan, writer, run)
  const manifest = fleet.commit(await writer.finish(fingerprint), 1)
  await writeFile(task.opened, JSON.stringify({ manifest, dataKey: options.dataKey.reveal().toString('hex') }))
  console.log(JSON.stringify(writer.totals))
} finally {
  await writer.close()
  await objects.close()
  await run.dispose()
}
