import { asHoldfastError, type HoldfastError } from '../../shared/errors.ts'
import { diskError } from '../../shared/own-disk.ts'

/** An error of the agent's own work as ours. What a disk says is tried again: engines and stores say it of theirs themselves. */
export function ownError(error: unknown, folder: string): HoldfastError {
  return diskError(error, `the agent's folder ${folder}`) ?? asHoldfastError(error)
}
