import { type BigIntStats, constants, readlinkSync } from 'node:fs'
import type { TreeEntry, TreeEntryType } from '../../../shared/artifacts.ts'
import type { Beneath } from './beneath.ts'
import { getAttribute, hasCode, listAttributes, splitDevice } from './posix.ts'
import type { Report } from './report.ts'

const TYPES = new Map<number, TreeEntryType>([
  [constants.S_IFREG, 'file'],
  [constants.S_IFDIR, 'directory'],
  [constants.S_IFLNK, 'symlink'],
  [constants.S_IFIFO, 'fifo'],
  [constants.S_IFSOCK, 'socket'],
  [constants.S_IFCHR, 'char-device'],
])

/** `isFile()` and its kin make two numbers without limit for each question. */
export function typeOf(stat: BigIntStats): TreeEntryType {
  return TYPES.get(Number(stat.mode) & constants.S_IFMT) ?? 'block-device'
}

/** All that is kept of an entry but its content. */
export function describeEntry(tree: Beneath, path: Buffer, stat: BigIntStats, report: Report): TreeEntry {
  const type = typeOf(stat)
  const xattrs = readAttributes(tree, path, report)
  const entry: { -readonly [Key in keyof TreeEntry]: TreeEntry[Key] } = {
    path,
    type,
    mode: Number(stat.mode) & 0o7777,
    uid: Number(stat.uid),
    gid: Number(stat.gid),
    mtimeNs: stat.mtimeNs,
    size: type === 'file' ? Number(stat.size) : 0,
  }
  if (type === 'symlink') entry.linkTarget = readlinkSync(tree.entry(path), { encoding: 'buffer' })
  if (type === 'char-device' || type === 'block-device') entry.device = splitDevice(stat.rdev)
  if (xattrs.length > 0) entry.xattrs = xattrs
  return entry
}

/** In the order of their names, so that two backups of the same tree say the same. POSIX access lists are among them. */
function readAttributes(tree: Beneath, path: Buffer, report: Report): Array<{ name: Buffer; value: Buffer }> {
  try {
    const address = tree.entry(path)
    const names = listAttributes(address)
    if (names.length === 0) return []
    return names.sort(Buffer.compare).flatMap((name) => {
      const value = getAttribute(address, name)
      return value ? [{ name, value }] : []
    })
  } catch (error) {
    if (!hasCode(error, 'EACCES', 'EPERM')) throw error
    report.say('xattr_unreadable', path, error)
    return []
  }
}
