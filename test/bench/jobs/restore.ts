import { readFile } from 'node:fs/promises'
import { engineFor } from '../../../agent/engines/registry.ts'
import { restorePlan } from '../../../agent/engines/testing/plans.ts'
import { testRun } from '../../../agent/engines/testing/run.ts'
import { openReader } from '../../../shared/repository/reader.ts'
import { Secret } from '../../../shared/secret.ts'
import { keepLeavingSpareMemory } from '../../../shared/spare-memory.ts'
import { type JobAnswer, readMade, type Task } from './made.ts'
import { transferTo } from './target-line.ts'

// One restore the way a job's process makes it, of the last backup of backup.ts and from the same kind of target.

const task = JSON.parse(await readFile(process.argv[2] ?? '', 'utf8')) as Task
const made = new Map((await readMade(task.made)).map((one) => [one.manifest.facts.id, one]))
const manifest = [...made.values()].at(-1)?.manifest
if (!manifest) throw new Error('there is no backup')
const leansOn = new Map(
  manifest.facts.leans_on.flatMap(({ id }) => made.get(id) ?? []).map((one) => [one.manifest.facts.id, one.manifest]),
)
const keys = (id: string) => new Secret(Buffer.from(made.get(id)?.dataKey ?? '', 'hex'))
const engine = engineFor(task.engine)
const objects = await transferTo(task.place, manifest.facts)
const run = await testRun()
const ended = new AbortController()
void keepLeavingSpareMemory(run.clock, ended.signal)
const reader = await openReader({ manifest, leansOn, keys, objects, signal: run.signal })
try {
  await engine.restore(restorePlan(engine.config.parse(task.config), null, { parts: task.parts ?? [] }), reader, run)
  const manifestBytes = [manifest, ...leansOn.values()].reduce((sum, one) => sum + JSON.stringify(one).length, 0)
  const answer: JobAnswer = { receivedBytes: objects.totals.receivedBytes, manifestBytes }
  console.log(JSON.stringify(answer))
} finally {
  await reader.close()
  await objects.close()
  await run.dispose()
  ended.abort()
}
