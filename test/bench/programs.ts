import { symlink } from 'node:fs/promises'
import path from 'node:path'
import { bundle } from '../../deploy/build/bundle.ts'
import { throwAwayFolder } from '../harness/folders.ts'

/** Programs in place of a job's own, in `jobs/`. */
export type JobName = 'backup' | 'restore' | 'pour-in'

const ROOT = path.resolve(import.meta.dirname, '../..')

let made: Promise<string> | undefined

/** Its program, bundled as the launcher bundles that of jobs; made once, and gone with this process. */
export async function programOf(job: JobName): Promise<string> {
  made ??= make()
  return path.join(await made, `${job}.mjs`)
}

async function make(): Promise<string> {
  const { path: folder } = await throwAwayFolder()
  // what is not bundled is found from there
  await symlink(path.join(ROOT, 'node_modules'), path.join(folder, 'node_modules'))
  const jobs: readonly JobName[] = ['backup', 'restore', 'pour-in']
  await bundle(Object.fromEntries(jobs.map((job) => [job, `test/bench/jobs/${job}.ts`])), folder)
  return folder
}
