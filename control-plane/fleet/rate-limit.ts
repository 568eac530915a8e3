import type { Clock } from '../../shared/clock.ts'

interface Bucket {
  tokens: number
  atMs: number
}

/**
 * Token buckets by name, on the monotonic clock. Bounded: when too many names are known, the one unused for longest is
 * forgotten, which at worst gives a flood from many addresses a new start; the token it has to guess has 256 bits.
 */
export class RateLimiter {
  readonly #clock: Clock
  readonly #maxNames: number
  readonly #buckets = new Map<string, Bucket>()

  constructor(clock: Clock, maxNames = 20_000) {
    this.#clock = clock
    this.#maxNames = maxNames
  }

  /** True when the call may go on. */
  take(name: string, perMinute: number, burst = perMinute): boolean {
    const now = this.#clock.monotonicMs()
    const bucket = this.#buckets.get(name) ?? { tokens: burst, atMs: now }
    bucket.tokens = Math.min(burst, bucket.tokens + ((now - bucket.atMs) / 60_000) * perMinute)
    bucket.atMs = now
    // put back last: a Map keeps insertion order, so the first is the one unused for longest
    this.#buckets.delete(name)
    this.#buckets.set(name, bucket)
    if (this.#buckets.size > this.#maxNames) this.#buckets.delete(this.#buckets.keys().next().value ?? '')
    if (bucket.tokens < 1) return false
    bucket.tokens -= 1
    return true
  }
}
