import { readlinkSync } from 'node:fs'
import type { TreeEntry } from '../../../shared/artifacts.ts'
import type { Beneath } from './beneath.ts'
import { getAttribute, hasCode, listAttributes, listAttributesAt } from './posix.ts'
import type { Report } from './report.ts'
import { mtimeNsOf, type Status, typeOf } from './status.ts'

/** All that is kept of an entry but its content. */
export function describeEntry(tree: Beneath, path: Buffer, status: Status, report: Report): TreeEntry {
  const type = typeOf(status)
  const xattrs = readAttributes(tree, path, report)
  const entry: { -readonly [Key in keyof TreeEntry]: TreeEntry[Key] } = {
    path,
    type,
    mode: status.mode & 0o7777,
    uid: status.uid,
    gid: status.gid,
    mtimeNs: mtimeNsOf(status),
    size: type === 'file' ? status.size : 0,
  }
  if (type === 'symlink') entry.linkTarget = readlinkSync(tree.entry(path), { encoding: 'buffer' })
  if (type === 'char-device' || type === 'block-device') entry.device = status.device
  if (xattrs.length > 0) entry.xattrs = xattrs
  return entry
}

const NO_ATTRIBUTES: Array<{ name: Buffer; value: Buffer }> = []

/** In the order of their names, so that two backups of the same tree say the same. POSIX access lists are among them. */
function readAttributes(tree: Beneath, path: Buffer, report: Report): Array<{ name: Buffer; value: Buffer }> {
  try {
    const { folder, name } = tree.place(path)
    const names = listAttributesAt(folder, name) ?? listAttributes(tree.entry(path))
    if (names.length === 0) return NO_ATTRIBUTES
    const address = tree.entry(path)
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
