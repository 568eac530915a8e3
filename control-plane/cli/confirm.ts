import { HoldfastError } from '../../shared/errors.ts'
import type { Io } from './io.ts'

/** Asks on a terminal; elsewhere `--yes` has to have been given. Throws when the answer is no. */
export async function confirm(io: Io, yes: boolean | undefined, question: string): Promise<void> {
  if (yes) return
  if (!io.canAsk) {
    throw new HoldfastError('invalid_argument', 'this needs --yes where nobody can be asked', {
      hint: 'Add --yes if it is meant, or run it on a terminal.',
    })
  }
  const answer = await io.ask(`${question} [y/N] `)
  if (/^y(es)?$/i.test(answer.trim())) return
  throw new HoldfastError('job_cancelled', 'nothing was done')
}
