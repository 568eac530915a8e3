import { closeSync, constants, openSync, read as readCallback, readSync } from 'node:fs'
import { promisify } from 'node:util'
import type { Extent, FileContent } from '../../../shared/artifacts.ts'
import type { Clock } from '../../../shared/clock.ts'
import { HoldfastError } from '../../../shared/errors.ts'
import type { Beneath } from './beneath.ts'
import { hasCode, seekData, seekHole } from './posix.ts'
import { printable, type Report } from './report.ts'
import { hasSameIdentity, identityOf, isSameFile, mtimeNsOf, type Status, statusOfFile, typeOf } from './status.ts'

const readAt = promisify(readCallback)
const PIECE_BYTES = 1024 * 1024
/** Below this, a read that blocks is quicker than one by way of another thread. */
const SYNC_BYTES = 128 * 1024

/** What is shared by the files of one walk. */
export interface ContentOptions<File> {
  readonly tree: Beneath
  readonly report: Report
  readonly clock: Clock
  readonly signal: AbortSignal
  /** Buffers of one piece that no file is read into now. Used again: fresh ones cost as much as the reading. */
  readonly spare: Buffer[]
  /** The file is left out after all. */
  dropped(file: File): void
  /** What was read, if it is not the size that the file was announced with. */
  resized(file: File, size: number): void
}

/** One object for each file and nothing else: there may be millions. `file` is what the caller knows it by. */
export class ListedFile<File> implements FileContent {
  readonly path: Buffer
  readonly listed: Status
  readonly file: File
  readonly options: ContentOptions<File>

  constructor(path: Buffer, listed: Status, file: File, options: ContentOptions<File>) {
    this.path = path
    this.listed = listed
    this.file = file
    this.options = options
  }

  /** Only a backup that leans on another asks for it before the file is read. */
  get identity(): string {
    return identityOf(this.listed)
  }

  read(): ReturnType<FileContent['read']> {
    return readFile(this)
  }
}

async function* readFile<File>(one: ListedFile<File>): ReturnType<FileContent['read']> {
  const { path, listed, options } = one
  const { fd, before } = openListed(one)
  const buffer = options.spare.pop() ?? Buffer.allocUnsafeSlow(PIECE_BYTES)
  try {
    const open = { fd, size: before.size, buffer }
    let read = open.size
    if (isSmall(open)) {
      options.signal.throwIfAborted()
      const bytes = attempt(one, () => readNow(fd, 0, buffer.subarray(0, open.size)))
      if (bytes.length > 0) yield { offset: 0, bytes }
      read = bytes.length
    } else read = yield* extents(open, one)
    const after = statusOfFile(fd)
    // a file that grows keeps the size it had: the new end was not read, and would come back as a hole
    const size = Math.min(read, open.size)
    const same = hasSameIdentity(before, after)
    if (size !== listed.size) options.resized(one.file, size)
    const mtimeNs = mtimeNsOf(before)
    if (mtimeNs !== mtimeNsOf(after) || before.size !== after.size) options.report.say('file_changed', path)
    const unsettled = !same || isFresh(after, options.clock)
    return { identity: unsettled ? null : identityOf(after), size, mtimeNs }
  } finally {
    closeSync(fd)
    options.spare.push(buffer)
  }
}

/**
 * A change in the same tick of the file system's clock as the last one leaves no trace in the times. Ticks are 10 ms at
 * most on Linux; a second (ext3) or two (FAT, some NFS) where times have no fraction.
 */
function isFresh({ mtime, mtimeNanos, ctime, ctimeNanos }: Status, clock: Clock): boolean {
  const coarse = ctimeNanos === 0 && mtimeNanos === 0
  const changedMs = Math.floor(Math.max(mtime * 1000 + mtimeNanos / 1e6, ctime * 1000 + ctimeNanos / 1e6))
  const ageMs = clock.now().getTime() - changedMs
  return ageMs < (coarse ? 2100 : 50)
}

/** Opens the very file that was listed. Non-blocking: a FIFO put in its place would wait for a writer for ever. */
function openListed<File>(one: ListedFile<File>): { fd: number; before: Status } {
  const { path, listed, options } = one
  let fd: number
  try {
    fd = openSync(options.tree.entry(path), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  } catch (error) {
    throw leaveOut(one, error)
  }
  const before = statusOfFile(fd)
  if (typeOf(before) === 'file' && isSameFile(before, listed)) return { fd, before }
  closeSync(fd)
  throw leaveOut(one, Object.assign(new Error('replaced'), { code: 'ENOENT' }))
}

function leaveOut<File>({ path, file, options }: ListedFile<File>, error: unknown): unknown {
  const vanished = hasCode(error, 'ENOENT', 'ENOTDIR', 'ELOOP', 'ESTALE')
  if (!vanished && !hasCode(error, 'EACCES', 'EPERM', 'EIO', 'ENXIO', 'ETXTBSY')) return error
  options.report.say(vanished ? 'file_vanished' : 'file_unreadable', path, vanished ? undefined : error)
  options.dropped(file)
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
async function* extents<File>(open: Open, one: ListedFile<File>): AsyncGenerator<Extent, number> {
  const { fd, size, buffer } = open
  for (let offset = 0; offset < size; ) {
    const data = seekData(fd, offset)
    if (data === null) return size
    const end = Math.min(seekHole(fd, data, size), size)
    for (offset = Math.max(data, offset); offset < end; ) {
      one.options.signal.throwIfAborted()
      const piece = buffer.subarray(0, Math.min(PIECE_BYTES, end - offset))
      const bytes = await readPiece(fd, offset, piece).catch((error: unknown) => {
        throw leaveOut(one, error)
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
function attempt<File, T>(one: ListedFile<File>, read: () => T): T {
  try {
    return read()
  } catch (error) {
    throw leaveOut(one, error)
  }
}

/** Shorter at the file's end. */
export async function readPiece(fd: number, offset: number, buffer: Buffer): Promise<Buffer> {
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
