import { randomFraction } from './ids.ts'

/**
 * How long to wait before try number `attempt` (1 for the first retry): doubling from `firstMs`, at most `maxMs`, of which a random
 * half to whole is waited. Without the randomness a fleet that lost its store together would come back together.
 */
export function backoffMs(attempt: number, firstMs: number, maxMs: number): number {
  const whole = Math.min(maxMs, firstMs * 2 ** Math.min(attempt - 1, 30))
  return Math.round(whole * (0.5 + randomFraction() / 2))
}
