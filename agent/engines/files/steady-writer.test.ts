import { closeSync, constants, openSync, readFileSync, statfsSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { seededBytes } from '../../../shared/repository/testing/content.ts'
import { available } from '../../../test/harness/cache.ts'
import { runCommand } from '../../../test/harness/commands.ts'
import { onPath } from '../../../test/harness/debian.ts'
import { throwAwayFolder } from '../../../test/harness/folders.ts'
import { SteadyWriter, type WriteOut } from './steady-writer.ts'

const MIB = 1024 * 1024

interface Opened {
  readonly file: string
  readonly writer: SteadyWriter
}

async function newFile(size: number, disk?: WriteOut): Promise<Opened> {
  const folder = await throwAwayFolder()
  const file = path.join(folder.path, 'file')
  const fd = openSync(file, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL)
  const writer = new SteadyWriter(fd, size, disk)
  onTestFinished(async () => {
    await writer.settle()
    closeSync(fd)
    await folder[Symbol.asyncDispose]()
  })
  return { file, writer }
}

/** A file system in memory has no other place for a file than the cache. */
const TMPFS = 0x01021994

async function canLookIntoCache(): Promise<boolean> {
  const there = () => onPath('fincore') !== null
  const had = await available('fincore, and a folder on a disk', 'download', there, async () => {
    if (!there()) throw new Error('fincore (util-linux) is not installed')
    if (statfsSync(tmpdir()).type === TMPFS) throw new Error(`${tmpdir()} is in memory`)
    return true
  })
  return had !== null
}

/** In extents of uneven lengths, two buffers in turn: one is used again as soon as it is nobody's any more. */
async function writeAll(writer: SteadyWriter, content: Buffer): Promise<void> {
  const buffers = [Buffer.alloc(MIB), Buffer.alloc(MIB)] as const
  for (let [at, turn] = [0, 0]; at < content.length; turn++) {
    const bytes = buffers[(turn % 2) as 0 | 1].subarray(0, Math.min(content.length - at, 1 + ((turn * 333_337) % MIB)))
    content.copy(bytes, 0, at)
    await writer.write({ offset: at, bytes })
    at += bytes.length
  }
  await writer.end(content.length)
}

describe('a file that is restored', () => {
  test.each([1000, 3 * MIB, 70 * MIB + 17])('of %i bytes is what was written, two extents at a time', async (size) => {
    const { file, writer } = await newFile(size)
    const content = seededBytes(size, size)
    await writeAll(writer, content)
    expect(readFileSync(file).equals(content)).toBe(true)
  })

  test('has holes where no extent was, and its whole size where the last one ends before', async () => {
    const { file, writer } = await newFile(200 * MIB)
    const bytes = seededBytes(1, MIB)
    for (const offset of [0, 90 * MIB + 1, 150 * MIB]) await writer.write({ offset, bytes })
    await writer.end(200 * MIB)
    const content = readFileSync(file)
    expect(content.length).toBe(200 * MIB)
    for (const offset of [0, 90 * MIB + 1, 150 * MIB]) expect(content.subarray(offset, offset + MIB).equals(bytes)).toBe(true)
    expect(content.subarray(MIB, 90 * MIB).every((byte) => byte === 0)).toBe(true)
  })

  test('leaves the disk cache as it is written when it is large, and stays there when it is small', async ({ skip }) => {
    if (!(await canLookIntoCache())) skip('the disk cache cannot be looked into here')
    const cached = async (size: number): Promise<number> => {
      const { file, writer } = await newFile(size)
      await writeAll(writer, seededBytes(2, size))
      await writer.settle()
      return Number(await runCommand('fincore', ['--bytes', '--noheadings', '--output', 'RES', file]))
    }
    expect(await cached(16 * MIB)).toBeGreaterThanOrEqual(16 * MIB)
    expect(await cached(96 * MIB)).toBeLessThanOrEqual(32 * MIB)
  })
})

describe('a write that failed', () => {
  test('is told by the next call, and by the end', async () => {
    // every write into it: no space left
    const fd = openSync('/dev/full', constants.O_WRONLY)
    onTestFinished(() => closeSync(fd))
    const writer = new SteadyWriter(fd, 4 * MIB)
    const bytes = seededBytes(1, MIB)
    await writer.write({ offset: 0, bytes })
    await expect(writer.write({ offset: MIB, bytes })).rejects.toMatchObject({ code: 'ENOSPC' })
    await expect(writer.end(4 * MIB)).rejects.toMatchObject({ code: 'ENOSPC' })
    await writer.settle()
  })

  test('is told at once where it was small', async () => {
    const fd = openSync('/dev/full', constants.O_WRONLY)
    onTestFinished(() => closeSync(fd))
    const writer = new SteadyWriter(fd, 10)
    await expect(writer.write({ offset: 0, bytes: Buffer.from('0123456789') })).rejects.toMatchObject({ code: 'ENOSPC' })
  })

  test('when a part goes to the disk is told, and no more is written than three parts', async () => {
    const PART = 8 * MIB
    const failure = Object.assign(new Error('EIO: sync_file_range'), { code: 'EIO', syscall: 'sync_file_range' })
    const calls: Array<[string, number, number]> = []
    const { writer, file } = await newFile(1000 * MIB, {
      begin: async (_fd, offset, length) => void calls.push(['begin', offset, length]),
      end: async (_fd, offset, length) => {
        calls.push(['end', offset, length])
        throw failure
      },
    })
    const bytes = seededBytes(1, MIB)
    const writing = async () => {
      for (let offset = 0; ; offset += MIB) await writer.write({ offset, bytes })
    }
    await expect(writing()).rejects.toBe(failure)
    await expect(writer.end(1000 * MIB)).rejects.toBe(failure)
    expect(calls).toEqual([
      ['begin', 0, PART],
      ['begin', PART, PART],
      ['end', 0, PART],
    ])
    expect(statSync(file).size).toBe(3 * PART)
  })
})
