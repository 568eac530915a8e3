import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { rowOf } from './dump.ts'
import { type Noise, noiseOf } from './noise.ts'

const IN_A_FOLDER = 200

/** Files of 100 bytes to 60 KB, most of them small, a third of them noise and the rest text; the same for the same seed. */
export async function writeSmallFiles(folder: string, count: number, seed: number): Promise<void> {
  const noise = noiseOf(seed, 1)
  for (let n = 0; n < count; n++) {
    const below = path.join(folder, String(Math.floor(n / IN_A_FOLDER)))
    if (n % IN_A_FOLDER === 0) await mkdir(below)
    const draw = noise(32)
    // the square makes small ones frequent
    const size = 100 + Math.floor((draw.readUInt16LE(24) / 65_536) ** 2 * 60_000)
    await writeFile(path.join(below, `${n}`), n % 3 === 0 ? noise(size) : textOf(size, n, noise))
  }
}

function textOf(size: number, id: number, noise: Noise): Buffer {
  const rows: string[] = []
  for (let length = 0; length < size; length += rows.at(-1)?.length ?? 0) rows.push(rowOf(id + rows.length, noise(32)))
  return Buffer.from(rows.join('')).subarray(0, size)
}
