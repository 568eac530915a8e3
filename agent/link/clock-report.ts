import type { Clock } from '../../shared/clock.ts'
import type { Logger } from '../../shared/log.ts'
import type { Address } from './address.ts'
import { clientsOn, enrolmentChannel } from './channel.ts'

/** Differences below this are nobody's concern. */
const TOLERANCE_SECONDS = 300

/**
 * Tells the control plane this host's clock, because its certificate cannot be accepted by it: so the difference is seen on both
 * sides. Nothing secret is sent, since nobody was authenticated. Returns the other clock when it is told (for people to read,
 * never acted on).
 */
export async function reportClock(to: {
  address: Address
  authorityPem: string
  chainPem: string
  clock: Clock
}): Promise<Date | null> {
  const channel = enrolmentChannel(to.address, to.authorityPem, { verify: false })
  try {
    const clockSeconds = BigInt(Math.floor(to.clock.now().getTime() / 1000))
    const answer = await clientsOn(channel, to.clock).enrolment.challenge({ chainPem: to.chainPem, clockSeconds })
    return new Date(Number(answer.clockSeconds) * 1000)
  } catch {
    // the report is a courtesy: the error that led here is the one that is thrown
    return null
  } finally {
    channel.close()
  }
}

/** Said by this side when the other's clock differs; the control plane says it too, from what it was told. */
export function warnOfSkew(serverSeconds: bigint, clock: Clock, log: Logger): void {
  const offset_seconds = Math.round(clock.now().getTime() / 1000 - Number(serverSeconds))
  if (Math.abs(offset_seconds) <= TOLERANCE_SECONDS) return
  log.warn(
    { offset_seconds },
    "suspected clock skew: this host's clock differs from the control plane's; set it, for example with NTP",
  )
}
