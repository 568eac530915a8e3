import { constants as fsConstants } from 'node:fs'
import os from 'node:os'
import koffi from 'koffi'

/**
 * The system calls that Node's fs lacks, by the C library. All of them are blocking calls of
 * microseconds; paths are raw bytes; a failure throws an Error with `code`, as fs does. Where a platform has no such call
 * (macOS knows neither holes everywhere nor POSIX ACLs as attributes), the answer is the one of a plain file system.
 */

const linux = process.platform === 'linux'
const library = koffi.load(linux ? null : '/usr/lib/libSystem.B.dylib')
const NAMES = new Map(Object.entries(os.constants.errno).map(([name, number]) => [number, name]))
// macOS: not among Node's constants
if (!linux) NAMES.set(93, 'ENOATTR')

type Call = (...args: Array<Buffer | number | bigint | null>) => number | bigint

const absent: Call = () => {
  koffi.errno(os.constants.errno.ENOSYS)
  return -1
}

/** A call that a C library may lack (musl, older glibc): then it answers ENOSYS. */
function declare(signature: string): Call {
  try {
    return library.func(signature) as Call
  } catch (error) {
    if (!/find function/i.test(String(error))) throw error
    return absent
  }
}

const calls = {
  lseek: declare('int64_t lseek(int fd, int64_t offset, int whence)'),
  flock: declare('int flock(int fd, int operation)'),
  utimensat: declare('int utimensat(int fd, const void *path, const void *times, int flags)'),
  mknod: declare(
    `int mknod(const void *path, ${linux ? 'uint32_t' : 'uint16_t'} mode, ${linux ? 'uint64_t' : 'int32_t'} device)`,
  ),
  sync: declare(linux ? 'int syncfs(int fd)' : 'int fsync(int fd)'),
  writeOut: declare('int sync_file_range(int fd, int64_t offset, int64_t length, unsigned int flags)'),
  advise: declare('int posix_fadvise(int fd, int64_t offset, int64_t length, int advice)'),
  rename: declare(
    linux
      ? 'int renameat2(int from_fd, const void *from, int to_fd, const void *to, unsigned int flags)'
      : 'int renameatx_np(int from_fd, const void *from, int to_fd, const void *to, unsigned int flags)',
  ),
  list: declare(
    linux
      ? 'intptr_t llistxattr(const void *path, void *list, size_t size)'
      : 'intptr_t listxattr(const void *path, void *list, size_t size, int options)',
  ),
  get: declare(
    linux
      ? 'intptr_t lgetxattr(const void *path, const void *name, void *value, size_t size)'
      : 'intptr_t getxattr(const void *path, const void *name, void *value, size_t size, uint32_t position, int options)',
  ),
  set: declare(
    linux
      ? 'int lsetxattr(const void *path, const void *name, const void *value, size_t size, int flags)'
      : 'int setxattr(const void *path, const void *name, const void *value, size_t size, uint32_t position, int options)',
  ),
  remove: declare(
    linux
      ? 'int lremovexattr(const void *path, const void *name)'
      : 'int removexattr(const void *path, const void *name, int options)',
  ),
  statx: linux ? declare('int statx(int folder, const void *name, int flags, unsigned int mask, void *status)') : absent,
  /** Of listxattrat(2), which C libraries do not have yet. */
  listAt: linux ? declare('long syscall(long number, int folder, const void *name, int flags, void *list, size_t size)') : absent,
}

const AT_FDCWD = linux ? -100 : -2
const AT_SYMLINK_NOFOLLOW = linux ? 0x100 : 0x20
const AT_EMPTY_PATH = 0x1000
const STATX_BASIC_STATS = 0x7ff
/** Its number on every processor that Node runs on. */
const LISTXATTRAT = 465
const UTIME_OMIT = linux ? (1n << 30n) - 2n : -2n
const [SEEK_DATA, SEEK_HOLE] = linux ? [3, 4] : [4, 3]
const [RENAME_NOREPLACE, RENAME_EXCHANGE] = linux ? [1, 2] : [4, 2]
const LOCK_EX_NB = 2 | 4
const [WAIT_BEFORE, WRITE, WAIT_AFTER] = [1, 2, 4]
const DONT_NEED = 4
/** macOS: position 0, XATTR_NOFOLLOW. */
const attributeOptions = linux ? [] : [0, 1]
const optionsOfList = attributeOptions.slice(1)

const ROOT = Buffer.from('/\0')
const EMPTY = Buffer.from('\0')

/** What statx(2) fills, and the same as numbers. */
const status = Buffer.alloc(256)
const words = new Uint32Array(status.buffer, status.byteOffset, status.length / 4)

/** Both are tried once: an older kernel lacks the second, and a sandbox may refuse either with whatever error. */
let canStatx: boolean | undefined
let canListAt: boolean | undefined

/**
 * The answer of statx(2) about what has this name in an open folder, no link followed: valid until the next call. The name ends with a NUL. Null where there is
 * no such call.
 */
export function statusAt(folder: number, name: Buffer): Uint32Array | null {
  return statx(folder, name, AT_SYMLINK_NOFOLLOW)
}

/** The same of an open file. */
export function statusOfOpen(fd: number): Uint32Array | null {
  return statx(fd, EMPTY, AT_EMPTY_PATH)
}

function statx(folder: number, name: Buffer, flags: number): Uint32Array | null {
  canStatx ??= calls.statx(AT_FDCWD, ROOT, 0, STATX_BASIC_STATS, status) === 0
  if (!canStatx) return null
  check('statx', calls.statx(folder, name, flags, STATX_BASIC_STATS, status))
  return words
}

function terminated(bytes: Buffer): Buffer {
  const text = Buffer.allocUnsafe(bytes.length + 1)
  bytes.copy(text)
  text[bytes.length] = 0
  return text
}

function check(name: string, result: number | bigint): number {
  if (Number(result) >= 0) return Number(result)
  const code = NAMES.get(koffi.errno()) ?? `E${koffi.errno()}`
  throw Object.assign(new Error(`${code}: ${name}`), { code, syscall: name })
}

/** Whether an error of a system call is one of these. */
export function hasCode(error: unknown, ...codes: string[]): boolean {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  return typeof code === 'string' && codes.includes(code)
}

/** Where data begins at or after `offset`; null when there is none before the file's end. */
export function seekData(fd: number, offset: number): number | null {
  try {
    return check('lseek', calls.lseek(fd, offset, SEEK_DATA))
  } catch (error) {
    if (hasCode(error, 'ENXIO')) return null
    // a file system without holes: all is data
    if (hasCode(error, 'EINVAL', 'ENOTSUP', 'EOPNOTSUPP', 'ENOTTY')) return offset
    throw error
  }
}

/** Where the hole after the data at `offset` begins, the file's end at the latest. */
export function seekHole(fd: number, offset: number, size: number): number {
  try {
    return check('lseek', calls.lseek(fd, offset, SEEK_HOLE))
  } catch (error) {
    if (hasCode(error, 'EINVAL', 'ENOTSUP', 'EOPNOTSUPP', 'ENOTTY', 'ENXIO')) return size
    throw error
  }
}

/** Sets the time of modification to the nanosecond, never through a symbolic link; the time of access stays. */
export function setModified(path: Buffer, mtimeNs: bigint): void {
  const times = Buffer.alloc(32)
  times.writeBigInt64LE(UTIME_OMIT, 8)
  const nanos = ((mtimeNs % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n
  times.writeBigInt64LE((mtimeNs - nanos) / 1_000_000_000n, 16)
  times.writeBigInt64LE(nanos, 24)
  check('utimensat', calls.utimensat(AT_FDCWD, terminated(path), times, AT_SYMLINK_NOFOLLOW))
}

export type NodeType = 'fifo' | 'socket' | 'char-device' | 'block-device'
const TYPE_BITS: Record<NodeType, number> = {
  fifo: fsConstants.S_IFIFO,
  socket: fsConstants.S_IFSOCK,
  'char-device': fsConstants.S_IFCHR,
  'block-device': fsConstants.S_IFBLK,
}

export function makeNode(path: Buffer, type: NodeType, mode: number, device: { major: number; minor: number }): void {
  check('mknod', calls.mknod(terminated(path), TYPE_BITS[type] | mode, joinDevice(device)))
}

export function joinDevice({ major, minor }: { major: number; minor: number }): bigint {
  const [high, low] = [BigInt(major), BigInt(minor)]
  if (!linux) return (high << 24n) | low
  return ((high & 0xfffn) << 8n) | (low & 0xffn) | ((low & ~0xffn) << 12n) | ((high & ~0xfffn) << 32n)
}

export function splitDevice(device: bigint): { major: number; minor: number } {
  if (!linux) return { major: Number((device >> 24n) & 0xffn), minor: Number(device & 0xffffffn) }
  return {
    major: Number(((device >> 8n) & 0xfffn) | ((device >> 32n) & 0xfffff000n)),
    minor: Number((device & 0xffn) | ((device >> 12n) & 0xffffff00n)),
  }
}

/** Two names change places at one moment. False when the file system cannot. */
export function exchange(one: Buffer, other: Buffer): boolean {
  return rename(one, other, RENAME_EXCHANGE)
}

/** Renames, and throws EEXIST when the new name is taken. False when the file system cannot do so at one moment. */
export function renameToNew(from: Buffer, to: Buffer): boolean {
  return rename(from, to, RENAME_NOREPLACE)
}

function rename(from: Buffer, to: Buffer, flags: number): boolean {
  try {
    check('rename', calls.rename(AT_FDCWD, terminated(from), AT_FDCWD, terminated(to), flags))
    return true
  } catch (error) {
    if (hasCode(error, 'EINVAL', 'ENOSYS', 'ENOTSUP', 'EOPNOTSUPP')) return false
    throw error
  }
}

/** Takes an exclusive lock that the kernel gives back with the file's closing. False when another process has it. */
export function tryLock(fd: number): boolean {
  try {
    check('flock', calls.flock(fd, LOCK_EX_NB))
    return true
  } catch (error) {
    if (hasCode(error, 'EWOULDBLOCK', 'EAGAIN')) return false
    throw error
  }
}

/** Waits until everything written to the file system of `fd` is on its disk (macOS: to this file alone). */
export async function syncFileSystem(fd: number): Promise<void> {
  await inAnotherThread(calls.sync, 'syncfs', [fd])
}

/** Whether a file can be written out part by part: Linux, and not in every sandbox. */
export function canWriteOut(fd: number): boolean {
  // without flags it checks, and does nothing
  return linux && calls.writeOut(fd, 0, 0, 0) === 0
}

/** Begins to write a part of a file to its disk (sync_file_range(2)). Throws EIO when earlier parts could not be written. */
export async function beginWriteOut(fd: number, offset: number, length: number): Promise<void> {
  await inAnotherThread(calls.writeOut, 'sync_file_range', [fd, offset, length, WRITE])
}

/** Waits until that part is there, and gives its pages of the disk cache back (posix_fadvise(2)). */
export async function endWriteOut(fd: number, offset: number, length: number): Promise<void> {
  await inAnotherThread(calls.writeOut, 'sync_file_range', [fd, offset, length, WAIT_BEFORE | WRITE | WAIT_AFTER])
  await inAnotherThread(calls.advise, 'posix_fadvise', [fd, offset, length, DONT_NEED])
}

/** A call that may wait for a disk. Its error number stays in that thread: of all that can fail here it is EIO that matters. */
function inAnotherThread(call: Call, syscall: string, args: number[]): Promise<void> {
  const both = call as Call & { async?: (...args: unknown[]) => void }
  return new Promise((resolve, reject) => {
    if (!both.async) return resolve()
    both.async(...args, (error: unknown, result: number) => {
      if (error) reject(error)
      // posix_fadvise is advice alone, and returns its error
      else if (result < 0) reject(Object.assign(new Error(`EIO: ${syscall}`), { code: 'EIO', syscall }))
      else resolve()
    })
  })
}

/** Extended attributes of the entry itself, never of what a link points to. Empty where the file system has none. */
export function listAttributes(path: Buffer): Buffer[] {
  const name = terminated(path)
  return namesIn(grow((target) => calls.list(name, target, target.length, ...optionsOfList)))
}

/** The same by an open folder and a name in it, which ends with a NUL. Null where there is no such call. */
export function listAttributesAt(folder: number, name: Buffer): Buffer[] | null {
  canListAt ??= triesListAt()
  if (!canListAt) return null
  // most entries have none
  if (calls.listAt(LISTXATTRAT, folder, name, AT_SYMLINK_NOFOLLOW, first, first.length) === 0) return NO_NAMES
  return namesIn(grow((target) => calls.listAt(LISTXATTRAT, folder, name, AT_SYMLINK_NOFOLLOW, target, target.length)))
}

function triesListAt(): boolean {
  if (Number(calls.listAt(LISTXATTRAT, AT_FDCWD, ROOT, AT_SYMLINK_NOFOLLOW, first, 0)) >= 0) return true
  return ['ENOTSUP', 'EOPNOTSUPP'].includes(NAMES.get(koffi.errno()) ?? '')
}

function namesIn(list: Buffer | null): Buffer[] {
  if (!list) return []
  const names: Buffer[] = []
  for (let start = 0; start < list.length; ) {
    const end = list.indexOf(0, start)
    names.push(list.subarray(start, end))
    start = end + 1
  }
  return names
}

/** Null when it has gone meanwhile. */
export function getAttribute(path: Buffer, name: Buffer): Buffer | null {
  const [file, key] = [terminated(path), terminated(name)]
  return grow((target) => calls.get(file, key, target, target.length, ...attributeOptions))
}

export function setAttribute(path: Buffer, name: Buffer, value: Buffer): void {
  // a buffer without bytes has no address
  const bytes = value.length > 0 ? value : Buffer.alloc(1)
  check('setxattr', calls.set(terminated(path), terminated(name), bytes, value.length, ...(linux ? [0] : attributeOptions)))
}

/** Absent is not an error. */
export function removeAttribute(path: Buffer, name: Buffer): void {
  try {
    check('removexattr', calls.remove(terminated(path), terminated(name), ...attributeOptions.slice(1)))
  } catch (error) {
    if (!hasCode(error, 'ENODATA', 'ENOATTR', 'ENOTSUP', 'EOPNOTSUPP')) throw error
  }
}

/** Almost every answer fits into it, and most are empty: a buffer for each would cost more than the call. */
const first = Buffer.alloc(256)
const NONE = Buffer.alloc(0)
const NO_NAMES: Buffer[] = []

/** Calls with a larger buffer until the answer fits. */
function grow(call: (target: Buffer) => number | bigint): Buffer | null {
  for (let target = first; ; target = Buffer.alloc(target.length * 16)) {
    try {
      const length = check('getxattr', call(target))
      if (length === 0) return NONE
      const bytes = target.subarray(0, length)
      return target === first ? Buffer.from(bytes) : bytes
    } catch (error) {
      if (hasCode(error, 'ENODATA', 'ENOATTR', 'ENOTSUP', 'EOPNOTSUPP')) return null
      if (!hasCode(error, 'ERANGE') || target.length > 1 << 20) throw error
    }
  }
}
