import { createCipheriv } from 'node:crypto'

// JavaScript, with its types in sums.d.mts, for the threads that packing.mjs runs in.

/** A sum is no secret and keeps none: any key does, as long as all threads have the same. */
const KEY = Buffer.from('holdfast: a sum.')
const NONCE = Buffer.alloc(12)

export class RunningSum {
  #mac = createCipheriv('aes-128-gcm', KEY, NONCE)

  add(bytes) {
    this.#mac.setAAD(bytes)
  }

  end() {
    this.#mac.final()
    return this.#mac.getAuthTag().toString('latin1')
  }
}

export function sumOf(bytes) {
  const sum = new RunningSum()
  sum.add(bytes)
  return sum.end()
}
