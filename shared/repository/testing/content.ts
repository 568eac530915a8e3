import { createCipheriv } from 'node:crypto'
import type { Extent, TreeInput, TreeOutput } from '../../artifacts.ts'
import { HoldfastError } from '../../errors.ts'

/** Bytes that look random, the same for the same seed. */
export function seededBytes(seed: number, length: number): Buffer {
  const key = Buffer.alloc(16)
  key.writeUInt32LE(seed)
  return createCipheriv('aes-128-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(length))
}

/** Lines like those of a dump: compress well, no two the same. */
export function dumpLike(seed: number, length: number): Buffer {
  const noise = seededBytes(seed, Math.ceil(length / 12))
  const lines: string[] = []
  let size = 0
  for (let n = 0; size < length; n++) {
    const line = `${n}\tcustomer ${noise[n % noise.length]}\t2026-01-01 00:00:00+00\t${noise.toString('hex', (n * 4) % noise.length, ((n * 4) % noise.length) + 6)}\n`
    lines.push(line)
    size += line.length
  }
  return Buffer.from(lines.join('')).subarray(0, length)
}

export async function* pieces(bytes: Buffer, size = 65_536): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
}

export async function collect(parts: AsyncIterable<Buffer>): Promise<Buffer> {
  const all: Buffer[] = []
  for await (const part of parts) all.push(Buffer.from(part))
  return Buffer.concat(all)
}

export interface FileSpec {
  readonly path: string | Buffer
  readonly bytes?: Buffer
  readonly identity?: string
  /** Data extents; what is between them is a hole. */
  readonly extents?: readonly Extent[]
  readonly size?: number
  readonly vanishes?: boolean
  readonly more?: Partial<TreeInput>
  onRead?(): void
}

/** A regular file of a tree. */
export function file(spec: FileSpec): TreeInput {
  const extents = spec.extents ?? (spec.bytes?.length ? [{ offset: 0, bytes: spec.bytes }] : [])
  const size = spec.size ?? spec.bytes?.length ?? 0
  return {
    path: Buffer.from(spec.path as string),
    type: 'file',
    mode: 0o644,
    uid: 1000,
    gid: 1000,
    mtimeNs: 1_700_000_000_123_456_789n,
    size,
    content: {
      identity: spec.identity ?? `${spec.path}/${size}`,
      async *read() {
        spec.onRead?.()
        for (const extent of extents) yield extent
        if (spec.vanishes) throw new HoldfastError('source_missing', 'gone')
        return { identity: spec.identity ?? `${spec.path}/${size}`, size, mtimeNs: 1_700_000_000_123_456_789n }
      },
    },
    ...spec.more,
  }
}

export async function* entries(list: Iterable<TreeInput>): AsyncGenerator<TreeInput> {
  yield* list
}

/** The whole content of a restored file, holes as zeros. */
export async function contentOf(entry: TreeOutput): Promise<Buffer> {
  const out = Buffer.alloc(entry.size)
  if (entry.read) for await (const { offset, bytes } of entry.read()) bytes.copy(out, offset)
  return out
}

/** In place of random numbers, the same for the same seed. */
export function drawsOf(seed: number): (below: number) => number {
  let drawn = 0
  return (below) => seededBytes(seed * 65_536 + drawn++, 4).readUInt32LE() % below
}
