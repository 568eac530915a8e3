import { createCipheriv } from 'node:crypto'

/** The next so many bytes. */
export type Noise = (bytes: number) => Buffer

/** Bytes that look random, the same for the same seed; `kind` tells apart what is made from one. */
export function noiseOf(seed: number, kind = 0): Noise {
  const key = Buffer.alloc(16)
  key.writeUInt32LE(seed)
  key.writeUInt32LE(kind, 4)
  const cipher = createCipheriv('aes-128-ctr', key, Buffer.alloc(16))
  return (bytes) => cipher.update(Buffer.alloc(bytes))
}

/** So many different whole numbers below `limit`, in rising order. */
export function placesIn(limit: number, count: number, noise: Noise): number[] {
  const found = new Set<number>()
  while (found.size < Math.min(count, limit)) found.add(Number(noise(8).readBigUInt64LE() % BigInt(limit)))
  return [...found].sort((a, b) => a - b)
}
