import { mkdir, rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { JOB_ENVIRONMENT, JOB_FLAGS } from '../../../agent/process/job-process.ts'
import { runCommand } from '../../harness/commands.ts'
import type { Bench } from '../bench.ts'
import type { PourTask } from '../jobs/pour-in.ts'
import { startTargetServer } from '../jobs/target-line.ts'
import { type Measured, measure } from '../measure.ts'
import { programOf } from '../programs.ts'
import { medianOf, row } from '../report.ts'

const BASE = '20260101T020000Z-2345672345'
/** Enough for every part of a job to run. */
const WARM_MB = 40
const JOBS = path.join(import.meta.dirname, '..', 'jobs')

/** What a job holds in memory with 1 GB and nothing known, and with much more and many known chunks. To a target that keeps nothing. */
export async function memory(bench: Bench): Promise<void> {
  const { mb, memoryMb, knownChunks } = bench.options
  // the first finds nothing that Node compiled, and what compiles holds more memory; each figure is of a run that finds all
  await run(bench, WARM_MB, null)
  console.log('\nmemory of a job')
  console.log(row('', ['peak MB', 'without the server', 'MB/s', 'CPU s/GB']))
  await pour(bench, mb, null)
  const [scratch, folder] = [path.join(bench.folder, 'list'), path.join(bench.folder, 'lists')]
  await mkdir(scratch)
  await runCommand(process.execPath, [...JOB_FLAGS, path.join(JOBS, 'known-list.ts'), scratch, folder, BASE, String(knownChunks)])
  await rm(scratch, { recursive: true })
  await pour(bench, mb, { folder, id: BASE, chunks: knownChunks })
  await pour(bench, memoryMb, { folder, id: BASE, chunks: knownChunks })
  await rm(folder, { recursive: true })
}

type Known = (PourTask['known'] & { chunks: number }) | null

async function pour(bench: Bench, mb: number, known: Known): Promise<void> {
  const { seconds, cpuSeconds, peakBytes, alone } = await run(bench, mb, known)
  const name = `${mb} MB, ${known ? `${known.chunks / 1e6} M known` : 'full'}`
  const figures = [peakBytes / 1e6, alone.peakBytes / 1e6, mb / seconds].map((figure) => medianOf([figure], 0))
  console.log(row(name, [...figures, medianOf([(cpuSeconds / mb) * 1000], 1)]))
}

async function run(bench: Bench, mb: number, known: Known): Promise<Measured> {
  const work = path.join(bench.folder, 'poured')
  await mkdir(work)
  const fifo = path.join(work, 'fifo')
  await runCommand('mkfifo', [fifo])
  const code = path.join(bench.folder, 'code')
  const server = await startTargetServer(work, code, { discards: true })
  try {
    const task: PourTask = { fifo, place: { kind: 'local', folder: work, served: server.served }, known }
    const file = path.join(work, 'task.json')
    await writeFile(file, JSON.stringify(task))
    const poured = runCommand(process.execPath, [path.join(JOBS, 'pour.ts'), fifo, String(mb)], { timeoutMs: 3 * 3_600_000 })
    const env = { ...JOB_ENVIRONMENT, NODE_COMPILE_CACHE: code }
    const measured = await measure(process.execPath, [...JOB_FLAGS, await programOf('pour-in'), file], env, server.pid)
    await poured
    return measured
  } finally {
    await server.stop()
    await rm(work, { recursive: true })
  }
}
