import path from 'node:path'
import { bundled } from '../harness/bundled.ts'

const JOBS = {
  backup: 'test/bench/jobs/backup.ts',
  restore: 'test/bench/jobs/restore.ts',
  'pour-in': 'test/bench/jobs/pour-in.ts',
} as const

/** Programs in place of a job's own. */
export type JobName = keyof typeof JOBS

let made: Promise<string> | undefined

/** Its program; all are made once. */
export async function programOf(job: JobName): Promise<string> {
  made ??= bundled(JOBS)
  return path.join(await made, `${job}.mjs`)
}
