import cliProgress from 'cli-progress'
import type { JobView, ProgressView } from '../api/schemas/jobs.ts'
import type { Io } from './io.ts'
import { durationText, safe, sizeText } from './text.ts'

/** Shows how jobs get on. On a terminal bars; elsewhere a line whenever a job's state or phase changes. */
export interface ProgressDisplay {
  update(job: JobView): void
  /** Something that a person has to know meanwhile. */
  note(text: string): void
  close(): void
}

/** Without progress; what waits for a person is said all the same. */
export const quietDisplay = (io: Io): ProgressDisplay => ({
  update: () => undefined,
  note: (text) => io.err(`${safe(text)}\n`),
  close: () => undefined,
})

export function progressDisplay(io: Io): ProgressDisplay {
  return io.errIsTerminal ? bars(io) : changes(io)
}

function bars(io: Io): ProgressDisplay {
  const shown = new Map<string, cliProgress.SingleBar>()
  const multi = new cliProgress.MultiBar(
    {
      stream: io.errStream,
      format: '{name}  {bar} {percentage}%  {figures}',
      hideCursor: true,
      clearOnComplete: false,
      emptyOnZero: true,
      barsize: 24,
      // nothing is drawn by a timer of its own: each update draws
      fps: 10,
    },
    cliProgress.Presets.shades_grey,
  )
  return {
    update(job) {
      const { done, total } = share(job)
      const payload = { name: safe(nameOf(job)), figures: figures(job) }
      const bar = shown.get(job.id) ?? multi.create(total, done, payload)
      shown.set(job.id, bar)
      bar.setTotal(total)
      bar.update(done, payload)
    },
    note: (text) => multi.log(`${safe(text)}\n`),
    close: () => multi.stop(),
  }
}

function changes(io: Io): ProgressDisplay {
  const last = new Map<string, string>()
  return {
    update(job) {
      const now = [job.status, job.progress?.phase].filter(Boolean).join(' ')
      if (last.get(job.id) === now) return
      last.set(job.id, now)
      io.err(`${safe(nameOf(job))}  ${safe(now)}  ${amounts(job)}`.trimEnd().concat('\n'))
    },
    note: (text) => io.err(`${safe(text)}\n`),
    close: () => undefined,
  }
}

/** What is read, or, of a restore, what is written. */
const nameOf = (job: JobView) => job.target ?? job.source ?? job.agent

/** Full only when the job has succeeded: what a job thinks is its total may grow. */
function share(job: JobView): { done: number; total: number } {
  if (job.status === 'succeeded') return { done: 1, total: 1 }
  const progress = job.progress
  if (!progress?.total_bytes) return { done: 0, total: 1 }
  const done = Math.max(progress.read_bytes, progress.written_bytes)
  return { done: Math.min(done, progress.total_bytes * 0.99), total: progress.total_bytes }
}

const figures = (job: JobView) => [job.status, amounts(job)].filter(Boolean).join('  ')

function amounts(job: JobView): string {
  if (job.progress === null) return ''
  const { progress } = job
  const parts = [
    ...(progress.written_bytes > 0 ? [`${sizeText(progress.written_bytes)} written`] : [`${sizeText(progress.read_bytes)} read`]),
    ...(job.kind === 'restore' ? found(progress) : stored(progress)),
    ...(progress.objects_total ? [`${progress.objects_done} of ${progress.objects_total}`] : []),
    ...(progress.bytes_per_second ? [`${sizeText(progress.bytes_per_second)}/s`] : []),
    ...(progress.seconds_left === null ? [] : [`${durationText(progress.seconds_left)} left`]),
  ]
  return parts.join('  ')
}

const found = ({ skipped_bytes: bytes }: ProgressView): string[] => (bytes > 0 ? [`${sizeText(bytes)} found in place`] : [])

function stored(progress: ProgressView): string[] {
  if (progress.stored_bytes === 0 && progress.skipped_bytes === 0) return []
  return [`${sizeText(progress.stored_bytes)} stored`, `${sizeText(progress.skipped_bytes)} skipped`]
}
