import { createReadStream, createWriteStream } from 'node:fs'
import { copyFile, lstat, mkdir, open, readdir, rm } from 'node:fs/promises'
import path from 'node:path'
import { pipeline } from 'node:stream/promises'
import { createGzip } from 'node:zlib'
import { writeDump } from './dump.ts'
import { noiseOf } from './noise.ts'

const PIECE = 4 * 1024 * 1024

/** A file like an image of a disk: pieces of noise and of rows in turn. */
export async function writeImage(file: string, bytes: number, seed: number): Promise<void> {
  const rows = `${file}.rows`
  await writeDump(rows, bytes / 2, seed)
  const noise = noiseOf(seed, 5)
  const handle = await open(file, 'wx')
  try {
    for await (const piece of createReadStream(rows, { highWaterMark: PIECE })) {
      await handle.write(piece)
      await handle.write(noise(PIECE))
    }
    await handle.sync()
  } finally {
    await handle.close()
  }
  await rm(rows)
}

/** Weights of a model as it is published (a safetensors file of bfloat16), and as many bytes of a gzip archive. */
export async function writeModels(folder: string, bytes: number, seed: number): Promise<void> {
  await writeWeights(path.join(folder, 'model.safetensors'), bytes / 2, seed)
  const rows = path.join(folder, 'rows')
  // gzip makes about a third of it
  await writeDump(rows, (bytes / 2) * 2.8, seed)
  await pipeline(createReadStream(rows), createGzip({ level: 1 }), createWriteStream(path.join(folder, 'rows.gz')))
  await rm(rows)
}

async function writeWeights(file: string, bytes: number, seed: number): Promise<void> {
  const shape = [Math.ceil(bytes / 2 / 4096), 4096]
  const head = JSON.stringify({ weights: { dtype: 'BF16', shape, data_offsets: [0, (shape[0] ?? 0) * 4096 * 2] } })
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(head.length))
  const [noise, normal] = [noiseOf(seed, 6), normalBfloat16()]
  const handle = await open(file, 'wx')
  try {
    await handle.write(Buffer.concat([length, Buffer.from(head)]))
    for (let written = 0; written < bytes; written += PIECE) {
      const draw = noise(PIECE)
      const values = new Uint16Array(PIECE / 2)
      for (let n = 0; n < values.length; n++) values[n] = normal[draw.readUInt16LE(2 * n)] as number
      await handle.write(Buffer.from(values.buffer))
    }
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** 65,536 draws of a normal distribution as weights have it (Box and Muller), as bfloat16: the upper half of a float. */
function normalBfloat16(): Uint16Array {
  const floats = Float32Array.from({ length: 65_536 }, (_, n) => {
    const [u, v] = [((n >> 8) + 0.5) / 256, ((n & 255) + 0.5) / 256]
    return 0.02 * Math.sqrt(-2 * Math.log(u)) * Math.cos(2 * Math.PI * v)
  })
  return Uint16Array.from(new Uint32Array(floats.buffer), (bits) => bits >>> 16)
}

/** Where programs and libraries lie on a Debian with Go. */
const PROGRAMS = ['/usr/lib', '/usr/local/go', '/usr/bin']
const LARGE_ENOUGH = 64 * 1024

/**
 * Half of it this machine's own programs and libraries, in the order of their names; the rest from the seed: rows of a dump, logs as lines of JSON, and a
 * tenth of noise in place of what is compressed already.
 */
export async function writeMix(folder: string, bytes: number, seed: number): Promise<void> {
  const programs = path.join(folder, 'programs')
  await mkdir(programs)
  let left = bytes / 2
  for (const above of PROGRAMS) {
    for await (const file of filesBelow(above)) {
      if (left <= 0) break
      await copyFile(file, path.join(programs, file.replaceAll('/', '_').slice(-250)))
      left -= (await lstat(file)).size
    }
  }
  await writeDump(path.join(folder, 'dump.sql'), bytes * 0.2 + Math.max(0, left), seed)
  await writeLogs(path.join(folder, 'log.jsonl'), bytes * 0.2, seed)
  await writeNoise(path.join(folder, 'compressed.bin'), bytes * 0.1, seed)
}

/** Regular ones that are not tiny, sorted. */
async function* filesBelow(folder: string): AsyncGenerator<string> {
  const entries = await readdir(folder, { withFileTypes: true }).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return []
    throw error
  })
  for (const entry of entries.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
    const at = path.join(folder, entry.name)
    if (entry.isDirectory()) yield* filesBelow(at)
    else if (entry.isFile() && (await lstat(at)).size >= LARGE_ENOUGH) yield at
  }
}

async function writeLogs(file: string, bytes: number, seed: number): Promise<void> {
  const noise = noiseOf(seed, 7)
  const handle = await open(file, 'wx')
  try {
    for (let written = 0, n = 0; written < bytes; ) {
      const lines: string[] = []
      for (let size = 0; size < PIECE; n++) {
        const line = logLine(n, noise(16))
        lines.push(line)
        size += line.length
      }
      written += (await handle.write(lines.join(''))).bytesWritten
    }
    await handle.sync()
  } finally {
    await handle.close()
  }
}

function logLine(n: number, draw: Buffer): string {
  const level = ['info', 'info', 'info', 'warn', 'error'][(draw[0] ?? 0) % 5]
  const route = `/api/v1/${['orders', 'customers', 'items', 'carts'][(draw[1] ?? 0) % 4]}/${draw.readUInt16LE(2)}`
  const time = new Date(1_750_000_000_000 + n * 37).toISOString()
  return `${JSON.stringify({ time, level, route, status: level === 'error' ? 500 : 200, ms: (draw[4] ?? 0) / 10, trace: draw.toString('hex', 5) })}\n`
}

async function writeNoise(file: string, bytes: number, seed: number): Promise<void> {
  const noise = noiseOf(seed, 8)
  const handle = await open(file, 'wx')
  try {
    for (let written = 0; written < bytes; written += PIECE) await handle.write(noise(PIECE))
    await handle.sync()
  } finally {
    await handle.close()
  }
}
