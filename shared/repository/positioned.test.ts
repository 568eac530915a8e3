import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, expect, it, vi } from 'vitest'

let failsWith: string | null = null

vi.mock('node:fs', async (original) => {
  const real = await original<typeof import('node:fs')>()
  const half = (length: number) => Math.max(1, length >> 1)
  const writeSync = (fd: number, bytes: Buffer, from: number, length: number, at: number) => {
    if (failsWith) throw Object.assign(new Error(`${failsWith}: something, write`), { code: failsWith, syscall: 'write' })
    return real.writeSync(fd, bytes, from, half(length), at)
  }
  const readSync = (fd: number, into: Buffer, from: number, length: number, at: number) =>
    real.readSync(fd, into, from, half(length), at)
  return { ...real, writeSync, readSync }
})

const { BucketSpool } = await import('./bucket-spool.ts')
const { BlobSpool } = await import('./known-blobs.ts')

const folder = mkdtempSync(path.join(tmpdir(), 'positioned-'))
afterAll(() => rmSync(folder, { recursive: true }))

const ROWS = 6000

function spoolOf(name: string) {
  const spool = new BucketSpool(path.join(folder, name), 16, 4)
  for (let n = 0; n < ROWS; n++) spool.add(0, (row) => row.fill(0).writeUInt32BE(n))
  return spool
}

it('a disk that takes and gives a part at a time loses nothing of the list of known chunks', () => {
  const spool = spoolOf('rows')
  const rows = [...spool.sorted(() => true)].map((row) => row.readUInt32BE(0))
  expect(rows).toEqual(Array.from({ length: ROWS }, (_, n) => n))
  spool.close()
  const blobs = new BlobSpool(path.join(folder, 'blobs'))
  const entry = { size: 9, segments: Array.from({ length: 40 }, (_, n) => ({ ref: n, first: n, count: 1 })) }
  const ends = [blobs.add(entry), blobs.add(entry)]
  const found = [...blobs.renumbered(new Uint32Array(40))]
  expect(found.map(({ length }) => length)).toEqual([ends[1], ends[1]])
  expect(found[0]).toEqual(found[1])
  blobs.close()
})

it.each([
  ['EIO', 'disk_failed'],
  ['ENOSPC', 'disk_full'],
])("a disk of the agent's own that says %s is not taken for that of a source: %s", (said, code) => {
  failsWith = said
  try {
    expect(() => spoolOf(said)).toThrow(expect.objectContaining({ code, retry: true, message: expect.stringContaining(folder) }))
  } finally {
    failsWith = null
  }
})
