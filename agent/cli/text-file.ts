import { readFile } from 'node:fs/promises'
import { HoldfastError } from '../../shared/errors.ts'

/** A file that a person named. */
export async function readTextFile(file: string): Promise<string> {
  return await readFile(file, 'utf8').catch((cause: unknown) => {
    throw new HoldfastError('not_found', `${JSON.stringify(file)} cannot be read`, {
      hint: 'Check the path and its rights.',
      cause,
    })
  })
}
