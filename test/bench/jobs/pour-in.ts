import { readFile } from 'node:fs/promises'
import { testRun } from '../../../agent/engines/testing/run.ts'
import { openKnown } from '../../../shared/repository/known.ts'
import { TestFleet } from '../../../shared/repository/testing/fleet.ts'
import { openWriter } from '../../../shared/repository/writer.ts'
import { keepLeavingSpareMemory } from '../../../shared/spare-memory.ts'
import type { Place } from './made.ts'
import { transferTo } from './target-line.ts'

/** What its process is told: a JSON file, its only argument. */
export interface PourTask {
  /** Named pipe that the bytes come from. */
  readonly fifo: string
  readonly place: Place
  /** The folder of the list of known chunks and the backup that it is of; a full without one. */
  readonly known: { readonly folder: string; readonly id: string } | null
}

// The backup of one stream that comes by a named pipe, by the repository's writer and the agent's transfer: what a job's process holds in memory,
// whatever the size.

const task = JSON.parse(await readFile(process.argv[2] ?? '', 'utf8')) as PourTask
const known = task.known && (await openKnown(task.known.folder, { id: task.known.id, manifestSha256: Buffer.alloc(32) }))
if (task.known && !known) throw new Error('the list of known chunks cannot be opened')
const fleet = await TestFleet.create()
const backup = fleet.place(2)
const objects = await transferTo(task.place, backup)
const run = await testRun()
const ended = new AbortController()
void keepLeavingSpareMemory(run.clock, ended.signal)
const options = fleet.options(backup, {
  ...{ engine: 'files', type: known ? 'incremental' : 'full', known, objects, scratch: run.scratch },
  ...(known ? { gearKey: known.gearKey } : {}),
})
const writer = await openWriter(options)
try {
  const chunking = { kind: 'content-defined', averageBytes: 65_536 } as const
  await writer.stream({ name: 'poured', chunking }, { fifo: task.fifo })
  await writer.finish({ counts: { all: 1 }, facts: {} })
} finally {
  await writer.close()
  await known?.close()
  await objects.close()
  await run.dispose()
  ended.abort()
}
