import { type BigIntStats, constants, fstatSync, lstatSync } from 'node:fs'
import type { TreeEntryType } from '../../../shared/artifacts.ts'
import type { Beneath } from './beneath.ts'
import { joinDevice, splitDevice, statusAt, statusOfOpen } from './posix.ts'

const TYPES = new Map<number, TreeEntryType>([
  [constants.S_IFREG, 'file'],
  [constants.S_IFDIR, 'directory'],
  [constants.S_IFLNK, 'symlink'],
  [constants.S_IFIFO, 'fifo'],
  [constants.S_IFSOCK, 'socket'],
  [constants.S_IFCHR, 'char-device'],
])
const WORD = 2 ** 32
const SECOND_NS = 1_000_000_000n

/** What the kernel says of an entry, as numbers: Node makes eighteen without limit for each entry, which cost more than the call. */
export interface Status {
  readonly mode: number
  readonly links: number
  readonly uid: number
  readonly gid: number
  readonly size: number
  /** As stat(2) numbers file systems. */
  readonly dev: bigint
  /** The inode number: its upper half, its lower one. */
  readonly inodeHigh: number
  readonly inodeLow: number
  /** Of a device. */
  readonly device: { readonly major: number; readonly minor: number }
  /** Last changed, data and anything: seconds since 1970, and nanoseconds of that second. */
  readonly mtime: number
  readonly mtimeNanos: number
  readonly ctime: number
  readonly ctimeNanos: number
}

/** Of what has this path in the tree; no link is followed. Throws as lstat(2) does. */
export function statusOf(tree: Beneath, path: Buffer): Status {
  const { folder, name } = tree.place(path)
  const words = statusAt(folder, name)
  return words ? fromWords(words) : fromNode(lstatSync(tree.entry(path), { bigint: true }))
}

export function statusOfFile(fd: number): Status {
  const words = statusOfOpen(fd)
  return words ? fromWords(words) : fromNode(fstatSync(fd, { bigint: true }))
}

export const typeOf = ({ mode }: Status): TreeEntryType => TYPES.get(mode & constants.S_IFMT) ?? 'block-device'

export const isSameFile = (a: Status, b: Status): boolean =>
  a.inodeLow === b.inodeLow && a.inodeHigh === b.inodeHigh && a.dev === b.dev

/** Text that no other file of the host has while this one is there. */
export const inodeOf = (status: Status): string => `${status.dev}:${inodeNumber(status)}`

/** Inode numbers are used again, and times can be set back: all five together are not, but for what `isFresh` (content.ts) sees. */
export const identityOf = (status: Status): string =>
  `${status.dev}:${inodeNumber(status)}:${status.size}:${nanoseconds(status.mtime, status.mtimeNanos)}:${nanoseconds(status.ctime, status.ctimeNanos)}`

/** Whether `identityOf` says the same of both. */
export const hasSameIdentity = (a: Status, b: Status): boolean =>
  isSameFile(a, b) &&
  a.size === b.size &&
  a.mtime === b.mtime &&
  a.mtimeNanos === b.mtimeNanos &&
  a.ctime === b.ctime &&
  a.ctimeNanos === b.ctimeNanos

export const mtimeNsOf = ({ mtime, mtimeNanos }: Status): bigint => BigInt(mtime) * SECOND_NS + BigInt(mtimeNanos)

function inodeNumber({ inodeHigh, inodeLow }: Status): string {
  if (inodeHigh < 2 ** 21) return String(inodeHigh * WORD + inodeLow)
  return String((BigInt(inodeHigh) << 32n) | BigInt(inodeLow))
}

/** The number of nanoseconds since 1970, in digits. */
function nanoseconds(seconds: number, nanos: number): string {
  if (seconds > 0) return seconds + String(nanos).padStart(9, '0')
  return String(BigInt(seconds) * SECOND_NS + BigInt(nanos))
}

/** Almost all entries of a tree lie on one. */
let last = { major: -1, minor: -1, dev: 0n }

function fileSystem(major: number, minor: number): bigint {
  if (last.minor !== minor || last.major !== major) last = { major, minor, dev: joinDevice({ major, minor }) }
  return last.dev
}

/** By the places of struct statx in units of four bytes, which the kernel has fixed. */
function fromWords(words: Uint32Array): Status {
  const at = (n: number) => words[n] as number
  return {
    mode: at(7) & 0xffff,
    links: at(4),
    uid: at(5),
    gid: at(6),
    size: at(10) + at(11) * WORD,
    dev: fileSystem(at(34), at(35)),
    inodeHigh: at(9),
    inodeLow: at(8),
    device: at(32) + at(33) === 0 ? NO_DEVICE : { major: at(32), minor: at(33) },
    mtime: at(28) + (at(29) | 0) * WORD,
    mtimeNanos: at(30),
    ctime: at(24) + (at(25) | 0) * WORD,
    ctimeNanos: at(26),
  }
}

const NO_DEVICE = { major: 0, minor: 0 }

function fromNode(stat: BigIntStats): Status {
  const [mtime, ctime] = [floored(stat.mtimeNs), floored(stat.ctimeNs)]
  return {
    mode: Number(stat.mode),
    links: Number(stat.nlink),
    uid: Number(stat.uid),
    gid: Number(stat.gid),
    size: Number(stat.size),
    dev: stat.dev,
    inodeHigh: Number(stat.ino >> 32n),
    inodeLow: Number(stat.ino & 0xffff_ffffn),
    device: splitDevice(stat.rdev),
    mtime: Number(mtime),
    mtimeNanos: Number(stat.mtimeNs - mtime * SECOND_NS),
    ctime: Number(ctime),
    ctimeNanos: Number(stat.ctimeNs - ctime * SECOND_NS),
  }
}

/** Whole seconds, towards the past. */
function floored(ns: bigint): bigint {
  const seconds = ns / SECOND_NS
  return seconds * SECOND_NS > ns ? seconds - 1n : seconds
}
