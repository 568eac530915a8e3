import { createReadStream } from 'node:fs'
import { type FileHandle, open, rename, stat } from 'node:fs/promises'
import { rowOf } from './dump.ts'
import { type Noise, noiseOf, placesIn } from './noise.ts'

/** Ids of rows that no dump had before. */
const NEW_IDS = 1_000_000_000

/** Writes a dump anew as a later one would be: so many rows, anywhere, have become others of another length, and 1 % has been added. */
export async function editDump(file: string, edits: number, seed: number): Promise<void> {
  const noise = noiseOf(seed, 2)
  const { size } = await stat(file)
  const places = placesIn(size - 10_000, edits, noise)
  const later = `${file}.later`
  const [from, to] = [await open(file, 'r'), await open(later, 'wx')]
  try {
    let at = 0
    for (const [n, place] of places.entries()) {
      const row = await rowAt(from, place)
      // two places may lie in one row
      if (row.begin < at) continue
      await copy(file, at, row.begin, to)
      await to.write(rowOf(NEW_IDS + n, noise(32)))
      at = row.end
    }
    await copy(file, at, size, to)
    await append(to, size / 100, noise)
    await to.sync()
  } finally {
    await Promise.all([from.close(), to.close()])
  }
  await rename(later, file)
}

/** The first row that begins behind this place. */
async function rowAt(file: FileHandle, place: number): Promise<{ begin: number; end: number }> {
  const near = Buffer.alloc(8192)
  await file.read(near, 0, near.length, place)
  const begin = near.indexOf(10) + 1
  return { begin: place + begin, end: place + near.indexOf(10, begin) + 1 }
}

async function copy(from: string, start: number, end: number, to: FileHandle): Promise<void> {
  if (end <= start) return
  for await (const piece of createReadStream(from, { start, end: end - 1, highWaterMark: 1024 * 1024 })) await to.write(piece)
}

async function append(to: FileHandle, bytes: number, noise: Noise): Promise<void> {
  for (let size = 0, n = 0; size < bytes; n += 1) size += (await to.write(rowOf(2 * NEW_IDS + n, noise(32)))).bytesWritten
}

/** Overwrites so many places of a file with other bytes; its length stays. */
export async function overwrite(file: string, places: number, bytes: number, seed: number): Promise<void> {
  const noise = noiseOf(seed, 3)
  const { size } = await stat(file)
  const handle = await open(file, 'r+')
  try {
    for (const place of placesIn(size - bytes, places, noise)) await handle.write(noise(bytes), 0, bytes, place)
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** Overwrites a share of a file with other rows, in regions of this many bytes at least; its length stays. */
export async function rewriteShare(file: string, share: number, seed: number, region = 128 * 1024): Promise<void> {
  const noise = noiseOf(seed, 4)
  const { size } = await stat(file)
  const regions = Math.max(1, Math.min(16, Math.floor((size * share) / region)))
  const length = Math.floor((size * share) / regions)
  const handle = await open(file, 'r+')
  try {
    for (const place of placesIn(size - length, regions, noise)) {
      const rows: string[] = []
      for (let made = 0; made < length; made += rows.at(-1)?.length ?? 0)
        rows.push(rowOf(NEW_IDS + seed * 1_000_000 + rows.length, noise(32)))
      await handle.write(Buffer.from(rows.join('')).subarray(0, length), 0, length, place)
    }
    await handle.sync()
  } finally {
    await handle.close()
  }
}
