import path from 'node:path'
import { bundled } from '../../harness/bundled.ts'

/** The programs that seeds start again and again, bundled: to start one then costs a third. */
export interface Programs {
  readonly agent: string
  readonly job: string
  /** What Node has compiled of them: beside them, since they lie elsewhere in each run. */
  readonly compiled: string
}

let made: Promise<Programs> | undefined

/** Made once, and gone with this process. */
export function programs(): Promise<Programs> {
  made ??= make()
  return made
}

async function make(): Promise<Programs> {
  const folder = await bundled({ agent: 'test/fault/data-path/agent-program.ts', job: 'agent/jobs/child.ts' })
  return { agent: path.join(folder, 'agent.mjs'), job: path.join(folder, 'job.mjs'), compiled: path.join(folder, 'compiled') }
}
