import { rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { JOB_ENVIRONMENT, JOB_FLAGS } from '../../agent/process/job-process.ts'
import type { Contestant, Input } from './contestant.ts'
import type { JobAnswer, Place, Task } from './jobs/made.ts'
import { startTargetServer } from './jobs/target-line.ts'
import { type Measured, measure } from './measure.ts'
import { type JobName, programOf } from './programs.ts'

/** This project. */
export const holdfast: Contestant = {
  name: 'holdfast',
  version: async () => `this tree, Node ${process.versions.node}`,
  run: (input, folder) => drive('backup', whatOf(input), folder),
  again: (input, folder) => drive('backup', whatOf(input), folder),
  restore: (_input, folder, to) => drive('restore', { engine: 'files', config: { path: to } }, folder),
}

/** Restores a part of what was backed up there, and says how many bytes were read for it. */
export async function restorePart(folder: string, to: string, part: string): Promise<JobAnswer> {
  const measured = await drive('restore', { engine: 'files', config: { path: to }, parts: [part] }, folder)
  return JSON.parse(measured.stdout) as JobAnswer
}

/** With the server of its local target, which keeps what lies in `folder`. */
async function drive(
  job: JobName,
  what: Pick<Task, 'engine' | 'config' | 'pageBytes' | 'parts'>,
  folder: string,
): Promise<Measured> {
  const server = await startTargetServer(folder, codeBeside(folder))
  try {
    return await runJob(job, { ...what, place: { kind: 'local', folder, served: server.served } }, folder, { beside: server.pid })
  } finally {
    await server.stop()
  }
}

/** To a bucket. */
export const backUpToBucket = (input: Input, folder: string, place: Place, env: Readonly<Record<string, string>>) =>
  runJob('backup', { ...whatOf(input), place }, folder, { env })

/**
 * As the agent starts a job; an agent's cache of code is there from its first job on. The server of the local target is part of the control plane, which
 * runs before any job: it was started before, and what it does meanwhile counts.
 */
async function runJob(
  job: JobName,
  what: Omit<Task, 'made' | 'known'>,
  folder: string,
  { beside, env = {} }: { beside?: number | undefined; env?: Readonly<Record<string, string>> },
): Promise<Measured> {
  const file = `${folder}.json`
  const task: Task = { ...what, made: `${folder}.made`, known: `${folder}.known` }
  await writeFile(file, JSON.stringify(task))
  return measure(
    process.execPath,
    [...JOB_FLAGS, await programOf(job), file],
    { ...JOB_ENVIRONMENT, ...env, NODE_COMPILE_CACHE: codeBeside(folder) },
    beside,
  )
}

const codeBeside = (folder: string): string => path.join(path.dirname(folder), 'code')

function whatOf({ database, folder, pageBytes }: Input): Pick<Task, 'engine' | 'config' | 'pageBytes'> {
  if (database) return { engine: 'postgres', config: database.config }
  return { engine: 'files', config: { path: folder }, ...(pageBytes ? { pageBytes } : {}) }
}

/** What a contestant keeps beside a repository's folder, this project or a peer. */
export async function removeRepository(folder: string): Promise<void> {
  for (const suffix of ['', '.base', '.json', '.made', '.known']) await rm(folder + suffix, { recursive: true, force: true })
}
