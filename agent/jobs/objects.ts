import type { Clock } from '../../shared/clock.ts'
import type { Logger } from '../../shared/log.ts'
import type { Pace } from '../transfer/throttle.ts'
import { createTransfer, type Transfer } from '../transfer/transfer.ts'
import type { ParentCalls } from './messages.ts'

/** The store as this job may use it: addresses come from the control plane one by one, bytes go straight to the store. */
export function jobObjects(
  parent: ParentCalls,
  paces: { readonly upload: Pace; readonly download: Pace },
  clock: Clock,
  log: Logger,
): Transfer {
  return createTransfer({
    signPuts: async (objects) =>
      (await parent.signPuts(objects.map((object) => ({ ...object, size: BigInt(object.size) })))).requests,
    signGets: async (keys) => (await parent.signGets(keys.map((key) => ({ key })))).requests,
    ...paces,
    clock,
    log,
  })
}
