import { readFile } from 'node:fs/promises'
import { engineFor } from '../../agent/engines/registry.ts'
import { restorePlan } from '../../agent/engines/testing/plans.ts'
import { testRun } from '../../agent/engines/testing/run.ts'
import type { Manifest } from '../../shared/manifest/manifest.ts'
import { openReader } from '../../shared/repository/reader.ts'
import { Secret } from '../../shared/secret.ts'
import { transferTo } from './target-line.ts'
import type { Served } from './target-server.ts'

// One restore the way a job's process makes it, of what driver.ts has backed up and from the same kind of server. Argument: a JSON file.
interface Task {
  readonly engine: string
  readonly config: unknown
  readonly store: string
  /** The server of the local target, which a control plane runs already when a job begins. */
  readonly served: Served
  readonly opened: string
}

const task = JSON.parse(await readFile(process.argv[2] ?? '', 'utf8')) as Task
const { manifest, dataKey } = JSON.parse(await readFile(task.opened, 'utf8')) as { manifest: Manifest; dataKey: string }
const engine = engineFor(task.engine)
const objects = await transferTo(task.served, task.store, manifest.facts)
const run = await testRun()
const key = new Secret(Buffer.from(dataKey, 'hex'))
const reader = await openReader({ manifest, leansOn: new Map(), keys: () => key, objects, signal: run.signal })
try {
  await engine.restore(restorePlan(engine.config.parse(task.config), null), reader, run)
} finally {
  await reader.close()
  await objects.close()
  await run.dispose()
}
