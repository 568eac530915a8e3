import type { Fault } from './fault-proxy.ts'

/** Random numbers from 0 (included) to 1 (left out) that a seed repeats: mulberry32. */
export function seeded(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/** A script for a fault proxy: about `rate` of the requests meet a fault, which ones and which fault the seed decides. */
export function seededFaults(seed: number, rate: number, maxCutBytes = 64 * 1024): () => Fault {
  const random = seeded(seed)
  const cut = () => Math.floor(random() * maxCutBytes)
  const kinds: ReadonlyArray<() => Fault> = [
    () => ({ kind: 'status', status: 500 }),
    () => ({ kind: 'status', status: 503 }),
    () => ({ kind: 'status', status: 403 }),
    () => ({ kind: 'status', status: 409 }),
    () => ({ kind: 'status', status: 412 }),
    () => ({ kind: 'lose-reply' }),
    () => ({ kind: 'cut-request', afterBytes: cut() }),
    () => ({ kind: 'cut-reply', afterBytes: cut() }),
    () => ({ kind: 'flip-request', atByte: cut() }),
  ]
  return () => {
    if (random() >= rate) return { kind: 'pass' }
    return kinds[Math.floor(random() * kinds.length)]?.() ?? { kind: 'pass' }
  }
}

/** `17`, `1..60`, or several of these: `17,40..49`. Throws what is neither. */
export function seedsOf(text: string): number[] {
  return text.split(',').flatMap((part) => {
    const [, first, last = first] = /^(\d+)(?:\.\.(\d+))?$/.exec(part) ?? []
    const count = Number(last) - Number(first) + 1
    if (!(count > 0)) throw new Error(`${JSON.stringify(text)} names no seeds: write 17, 1..60 or 17,40..49`)
    return Array.from({ length: count }, (_, n) => Number(first) + n)
  })
}
