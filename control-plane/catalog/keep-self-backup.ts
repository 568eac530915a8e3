import type { Clock } from '../../shared/clock.ts'
import { asHoldfastError } from '../../shared/errors.ts'
import type { Logger } from '../../shared/log.ts'
import type { Catalog } from './catalog.ts'
import { CHANNELS } from './channels.ts'
import { type SelfBackupIndex, writeSelfBackup } from './self-backup.ts'

/** Less than the minute that is promised, so that the writing fits in. */
const INTERVAL_MS = 50_000

/**
 * Keeps the self-backup at most a minute old, and makes it at once when policies, targets, keys or agents change. `stop` makes a last
 * one. A failure is logged and tried again at the next turn.
 */
export async function keepSelfBackup(
  catalog: Catalog,
  folder: string,
  deps: { readonly clock: Clock; readonly log: Logger },
): Promise<{ stop(): Promise<void> }> {
  const stop = new AbortController()
  let wake = new AbortController()
  const unlisten = await catalog.listen(CHANNELS.protection, () => wake.abort())
  // an earlier run's marks may be those of a catalog that was rebuilt since: the first is written whole
  let last: SelfBackupIndex | null = null
  const once = async (): Promise<void> => {
    try {
      last = await writeSelfBackup(catalog, folder, last)
    } catch (error) {
      deps.log.error({ err: asHoldfastError(error) }, 'the self-backup of the catalog could not be written')
    }
  }
  const running = (async () => {
    while (!stop.signal.aborted) {
      wake = new AbortController()
      await once()
      // woken, or stopping
      await deps.clock.sleep(INTERVAL_MS, AbortSignal.any([wake.signal, stop.signal])).catch(() => undefined)
    }
  })()
  return {
    stop: async () => {
      stop.abort()
      await running
      await unlisten()
      await once()
    },
  }
}
