import { type BigIntStats, closeSync, constants, fstatSync, openSync, read as readCallback, readSync } from 'node:fs'
import { promisify } from 'node:util'
import type { Extent, FileContent } from '../../../shared/artifacts.ts'
import type { Clock } from '../../../shared/clock.ts'
import { HoldfastError } from '../../../shared/errors.ts'
import type { Beneath } from './beneath.ts'
import { hasCode, seekData, seekHole } from './posix.ts'
import { printable, type Report } from './report.ts'

const readAt = promisify(readCallback)
const PIECE_BYTES = 1024 * 1024
/** Below this, a read that blocks is quicker than one by way of another thread. */
const SYNC_BYTES = 128 * 1024
const SECOND_NS = 1_000_000_000n

export interface ContentOptions {
  readonly tree: Beneath
  readonly report: Report
  readonly clock: Clock
  readonly signal: AbortSignal
  /** Buffers of one piece that no file is read into now. Used again: fresh ones cost as much as the reading. */
  readonly spare: Buffer[]
  /** The entry is left out after all. */
  dropped(): void
  /** What was read, if it is not the size that the entry was announced with. */
  resized(size: number): void
}

/** Inode numbers are used again, and times can be set back: all five together are not, but for what `isFresh` sees. */
export function identityOf(stat: BigIntStats): string {
  return [stat.dev, stat.ino, stat.size, stat.mtimeNs, stat.ctimeNs].join(':')
}

export function fileContent(path: Buffer, listed: BigIntStats, options: ContentOptions): FileContent {
  return {
    // only a backup that leans on another asks for it before the file is read
    get identity() {
      return identityOf(listed)
    },
    read: () => readFile(path, listed, options),
  }
}

async function* readFile(path: Buffer, listed: BigIntStats, options: ContentOptions): ReturnType<FileContent['read']> {
  const { fd, before } = openListed(path, listed, options)
  const buffer = options.spare.pop() ?? Buffer.allocUnsafeSlow(PIECE_BYTES)
  try {
    const file = { fd, size: Number(before.size), buffer }
    let read = file.size
    if (isSmall(file)) {
      options.signal.throwIfAborted()
      const bytes = attempt(path, options, () => readNow(fd, 0, buffer.subarray(0, file.size)))
      if (bytes.length > 0) yield { offset: 0, bytes }
      read = bytes.length
    } else read = yield* extents(file, path, options)
    const after = fstatSync(fd, { bigint: true })
    // a file that grows keeps the size it had: the new end was not read, and would come back as a hole
    const size = Math.min(read, file.size)
    const same = isSame(before, after)
    if (size !== Number(listed.size)) options.resized(size)
    if (before.mtimeNs !== after.mtimeNs || before.size !== after.size) options.report.say('file_changed', path)
    const unsettled = !same || isFresh(after, options.clock)
    return { identity: unsettled ? null : identityOf(after), size, mtimeNs: same ? after.mtimeNs : before.mtimeNs }
  } finally {
    closeSync(fd)
    options.spare.push(buffer)
  }
}

/** Whether `identityOf` says the same of both. */
function isSame(a: BigIntStats, b: BigIntStats): boolean {
  return a.dev === b.dev && a.ino === b.ino && a.size === b.size && a.mtimeNs === b.mtimeNs && a.ctimeNs === b.ctimeNs
}

/**
 * A change in the same tick of the file system's clock as the last one leaves no trace in the times. Ticks are 10 ms at
 * most on Linux; a second (ext3) or two (FAT, some NFS) where times have no fraction.
 */
function isFresh(stat: BigIntStats, clock: Clock): boolean {
  const coarse = stat.ctimeNs % SECOND_NS === 0n && stat.mtimeNs % SECOND_NS === 0n
  const changedMs = Number((stat.ctimeNs > stat.mtimeNs ? stat.ctimeNs : stat.mtimeNs) / 1_000_000n)
  const ageMs = clock.now().getTime() - changedMs
  return ageMs < (coarse ? 2100 : 50)
}

/** Opens the very file that was listed. Non-blocking: a FIFO put in its place would wait for a writer for ever. */
function openListed(path: Buffer, listed: BigIntStats, options: ContentOptions): { fd: number; before: BigIntStats } {
  let fd: number
  try {
    fd = openSync(options.tree.entry(path), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  } catch (error) {
    throw leaveOut(path, error, options)
  }
  const before = fstatSync(fd, { bigint: true })
  if (before.isFile() && before.dev === listed.dev && before.ino === listed.ino) return { fd, before }
  closeSync(fd)
  throw leaveOut(path, Object.assign(new Error('replaced'), { code: 'ENOENT' }), options)
}

function leaveOut(path: Buffer, error: unknown, options: ContentOptions): unknown {
  const vanished = hasCode(error, 'ENOENT', 'ENOTDIR', 'ELOOP', 'ESTALE')
  if (!vanished && !hasCode(error, 'EACCES', 'EPERM', 'EIO', 'ENXIO', 'ETXTBSY')) return error
  options.report.say(vanished ? 'file_vanished' : 'file_unreadable', path, vanished ? undefined : error)
  options.dropped()
  return new HoldfastError('source_missing', `${printable(path)} is left out`, { hint: 'A finding tells why.', cause: error })
}

interface Open {
  readonly fd: number
  readonly size: number
  readonly buffer: Buffer
}

/** Read at once and as one extent: it has no hole before its end. */
function isSmall({ fd, size }: Open): boolean {
  return size <= SYNC_BYTES && (size === 0 || seekHole(fd, 0, size) >= size)
}

/** Returns how far the file really reached. */
async function* extents(file: Open, path: Buffer, options: ContentOptions): AsyncGenerator<Extent, number> {
  const { fd, size, buffer } = file
  for (let offset = 0; offset < size; ) {
    const data = seekData(fd, offset)
    if (data === null) return size
    const end = Math.min(seekHole(fd, data, size), size)
    for (offset = Math.max(data, offset); offset < end; ) {
      options.signal.throwIfAborted()
      const piece = buffer.subarray(0, Math.min(PIECE_BYTES, end - offset))
      const bytes = await readPiece(fd, offset, piece).catch((error: unknown) => {
        throw leaveOut(path, error, options)
      })
      // shorter than it was: cut off meanwhile
      if (bytes.length === 0) return offset
      yield { offset, bytes }
      offset += bytes.length
    }
  }
  return size
}

/** What `read` throws as the reason for which the file is left out. */
function attempt<T>(path: Buffer, options: ContentOptions, read: () => T): T {
  try {
    return read()
  } catch (error) {
    throw leaveOut(path, error, options)
  }
}

async function readPiece(fd: number, offset: number, buffer: Buffer): Promise<Buffer> {
  const { length } = buffer
  if (length <= SYNC_BYTES) return readNow(fd, offset, buffer)
  let got = 0
  while (got < length) {
    const step = (await readAt(fd, buffer, got, length - got, offset + got)).bytesRead
    if (step === 0) break
    got += step
  }
  return buffer.subarray(0, got)
}

function readNow(fd: number, offset: number, buffer: Buffer): Buffer {
  const { length } = buffer
  let got = 0
  while (got < length) {
    const step = readSync(fd, buffer, got, length - got, offset + got)
    if (step === 0) break
    got += step
  }
  return buffer.subarray(0, got)
}
