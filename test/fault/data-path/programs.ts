import { symlink } from 'node:fs/promises'
import path from 'node:path'
import { bundle } from '../../../deploy/build/bundle.ts'
import { throwAwayFolder } from '../../harness/folders.ts'

/** The programs that seeds start again and again, bundled: to start one then costs a third. */
export interface Programs {
  readonly agent: string
  readonly job: string
  /** What Node has compiled of them: beside them, since they lie elsewhere in each run. */
  readonly compiled: string
}

const ROOT = path.resolve(import.meta.dirname, '../../..')

let made: Promise<Programs> | undefined

/** Made once, and gone with this process. */
export function programs(): Promise<Programs> {
  made ??= make()
  return made
}

async function make(): Promise<Programs> {
  const { path: folder } = await throwAwayFolder()
  // what is not bundled is found from there
  await symlink(path.join(ROOT, 'node_modules'), path.join(folder, 'node_modules'))
  await bundle({ agent: 'test/fault/data-path/agent-program.ts', job: 'agent/jobs/child.ts' }, folder)
  return { agent: path.join(folder, 'agent.mjs'), job: path.join(folder, 'job.mjs'), compiled: path.join(folder, 'compiled') }
}
