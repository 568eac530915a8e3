import { mkdir, rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { JOB_ENVIRONMENT, JOB_FLAGS } from '../../../agent/process/job-process.ts'
import { runCommand } from '../../harness/commands.ts'
import type { Bench } from '../bench.ts'
import type { PourTask } from '../jobs/pour-in.ts'
import { startTargetServer } from '../jobs/target-line.ts'
import { measure } from '../measure.ts'
import { medianOf, row } from '../report.ts'

const BASE = '20260101T020000Z-2345672345'
const JOBS = path.join(import.meta.dirname, '..', 'jobs')

/** What a job holds in memory with 1 GB and nothing known, and with much more and many known chunks. To a target that keeps nothing. */
export async function memory(bench: Bench): Promise<void> {
  const { mb, memoryMb, knownChunks } = bench.options
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

async function pour(bench: Bench, mb: number, known: (PourTask['known'] & { chunks: number }) | null): Promise<void> {
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
    const measured = await measure(process.execPath, [...JOB_FLAGS, path.join(JOBS, 'pour-in.ts'), file], env, server.pid)
    await poured
    const { seconds, cpuSeconds, peakBytes, alone } = measured
    const name = `${mb} MB, ${known ? `${known.chunks / 1e6} M known` : 'full'}`
    const figures = [peakBytes / 1e6, alone.peakBytes / 1e6, mb / seconds].map((figure) => medianOf([figure], 0))
    console.log(row(name, [...figures, medianOf([(cpuSeconds / mb) * 1000], 1)]))
  } finally {
    await server.stop()
    await rm(work, { recursive: true })
  }
}
