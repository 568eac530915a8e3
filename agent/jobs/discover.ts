import { asHoldfastError } from '../../shared/errors.ts'
import type { FoundSource } from '../../shared/results.ts'
import type { Run } from '../engines/engine.ts'
import { engineFor, engineKinds } from '../engines/registry.ts'

/** What every engine finds on this host. An engine that fails says so as a finding; the others still answer. */
export async function discover(run: Run): Promise<FoundSource[]> {
  const found = await Promise.all(
    engineKinds().map(async (kind) => {
      try {
        return await engineFor(kind).discover(run)
      } catch (error) {
        run.signal.throwIfAborted()
        const failure = asHoldfastError(error)
        run.finding({
          code: failure.code,
          severity: 'warning',
          message: `looking for ${kind} failed: ${failure.message}`,
          hint: failure.hint,
        })
        return []
      }
    }),
  )
  return found.flat()
}
