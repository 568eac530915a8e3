import { HoldfastError } from '../../shared/errors.ts'
import { runBackup } from './backup.ts'
import type { JobContext } from './context.ts'
import { discover } from './discover.ts'
import { runPreflight } from './preflight.ts'
import { runRestore } from './restore.ts'
import { runTestRestore, runVerify } from './verify.ts'

/** One line a command. */
export async function runWork(job: JobContext): Promise<unknown> {
  const work = job.command.work
  switch (work?.$case) {
    case 'backup':
      return runBackup(job, work.value)
    case 'restore':
      return runRestore(job, work.value)
    case 'verify':
      return runVerify(job, work.value)
    case 'testRestore':
      return runTestRestore(job, work.value)
    case 'discover':
      return { found: await discover(job.run) }
    case 'preflight':
      return runPreflight(job, work.value)
    default:
      throw new HoldfastError('not_supported', 'this agent does not know the command', {
        hint: 'Update the agent: the control plane is newer than it.',
      })
  }
}
