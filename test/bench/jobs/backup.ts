import { readFile } from 'node:fs/promises'
import { engineFor } from '../../../agent/engines/registry.ts'
import { testRun } from '../../../agent/engines/testing/run.ts'
import type { BackupSink } from '../../../shared/artifacts.ts'
import { keepKnown, openKnown } from '../../../shared/repository/known.ts'
import { planResend } from '../../../shared/repository/resend.ts'
import { TestFleet } from '../../../shared/repository/testing/fleet.ts'
import { openWriter } from '../../../shared/repository/writer.ts'
import { keepLeavingSpareMemory } from '../../../shared/spare-memory.ts'
import { addMade, type Made, readMade, type Task } from './made.ts'
import { transferTo } from './target-line.ts'

// One backup the way a job's process makes it: an engine, the repository's writer, and the agent's transfer to the target. A full, or an incremental
// where there is one already. Without a control plane, whose round trips for addresses and commit are left out.

const task = JSON.parse(await readFile(process.argv[2] ?? '', 'utf8')) as Task
const engine = engineFor(task.engine)
const made = await readMade(task.made)
const base = made.at(-1)
const known = base ? await openKnown(task.known, idOf(base)) : null
if (base && !known) throw new Error('the list of known chunks of the last backup cannot be opened')
const fleet = await TestFleet.create()
const backup = fleet.place(made.length + 1)
const objects = await transferTo(task.place, backup)
const kept = await testRun()
// a job adds up what an engine tells it; a test's list of it would count as the job's memory
const run = { ...kept, progress: () => undefined }
const ended = new AbortController()
void keepLeavingSpareMemory(run.clock, ended.signal)
const type = known ? 'incremental' : 'full'
const leansOn = base ? [...base.manifest.facts.leans_on.map(({ id }) => id), base.manifest.facts.id] : []
const options = fleet.options(backup, {
  ...{ engine: task.engine, type, known, objects, scratch: run.scratch, resend: planResend(leansOn, []) },
  ...(known ? { gearKey: known.gearKey } : {}),
})
const writer = await openWriter(options)
try {
  const plan = { action: 'backup', config: engine.config.parse(task.config), type, parts: [] } as const
  const fingerprint = await engine.backup(plan, task.pageBytes ? inPages(writer, task.pageBytes) : writer, run)
  const manifest = fleet.commit(await writer.finish(fingerprint), made.length + 1)
  const dataKey = options.dataKey.reveal().toString('hex')
  const more = { manifest, manifestSha256: fleet.sha256(manifest).toString('hex'), dataKey }
  await keepKnown(run.scratch, task.known, idOf(more))
  await addMade(task.made, made, more)
} finally {
  await writer.close()
  await known?.close()
  await objects.close()
  await run.dispose()
  ended.abort()
}

function idOf({ manifest, manifestSha256 }: Made) {
  return { id: manifest.facts.id, manifestSha256: Buffer.from(manifestSha256, 'hex') }
}

function inPages(sink: BackupSink, bytes: number): BackupSink {
  return {
    stream: (meta, source) => sink.stream(meta, source),
    tree: (meta, entries) => sink.tree({ ...meta, chunking: { kind: 'fixed', bytes } }, entries),
  }
}
