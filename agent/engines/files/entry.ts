import { type BigIntStats, readlinkSync } from 'node:fs'
import type { TreeEntry, TreeEntryType } from '../../../shared/artifacts.ts'
import type { Beneath } from './beneath.ts'
import { getAttribute, hasCode, listAttributes, splitDevice } from './posix.ts'
import type { Report } from './report.ts'

export function typeOf(stat: BigIntStats): TreeEntryType {
  if (stat.isFile()) return 'file'
  if (stat.isDirectory()) return 'directory'
  if (stat.isSymbolicLink()) return 'symlink'
  if (stat.isFIFO()) return 'fifo'
  if (stat.isSocket()) return 'socket'
  return stat.isCharacterDevice() ? 'char-device' : 'block-device'
}

/** All that is kept of an entry but its content. */
export function describeEntry(tree: Beneath, path: Buffer, stat: BigIntStats, report: Report): TreeEntry {
  const type = typeOf(stat)
  const xattrs = readAttributes(tree, path, report)
  return {
    path,
    type,
    mode: Number(stat.mode) & 0o7777,
    uid: Number(stat.uid),
    gid: Number(stat.gid),
    mtimeNs: stat.mtimeNs,
    size: type === 'file' ? Number(stat.size) : 0,
    ...(type === 'symlink' ? { linkTarget: readlinkSync(tree.entry(path), { encoding: 'buffer' }) } : {}),
    ...(type === 'char-device' || type === 'block-device' ? { device: splitDevice(stat.rdev) } : {}),
    ...(xattrs.length > 0 ? { xattrs } : {}),
  }
}

/** In the order of their names, so that two backups of the same tree say the same. POSIX access lists are among them. */
function readAttributes(tree: Beneath, path: Buffer, report: Report): Array<{ name: Buffer; value: Buffer }> {
  try {
    const address = tree.entry(path)
    return listAttributes(address)
      .sort(Buffer.compare)
      .flatMap((name) => {
        const value = getAttribute(address, name)
        return value ? [{ name, value }] : []
      })
  } catch (error) {
    if (!hasCode(error, 'EACCES', 'EPERM')) throw error
    report.say('xattr_unreadable', path, error)
    return []
  }
}
