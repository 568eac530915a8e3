import type { TreeEntry, TreeEntryType } from '../artifacts.ts'
import { HoldfastError } from '../errors.ts'
import { ByteReader, type ByteWriter } from './bytes.ts'
import { LIMITS } from './format.ts'

/** Entries of trees as bytes (FORMAT.md section 9). */

const TYPES = [
  'file',
  'directory',
  'symlink',
  'fifo',
  'socket',
  'char-device',
  'block-device',
] as const satisfies readonly TreeEntryType[]
const FLAG = { linkTarget: 1, hardLink: 2, device: 4, xattrs: 8 } as const
const MAX_XATTRS = 10_000

/** Into `out`, which holds nothing yet. `size` and `mtimeNs` stand for the entry's own: a file may have changed while it was read. */
export function writeEntry(out: ByteWriter, entry: TreeEntry, size: number, mtimeNs: bigint): void {
  let flags = 0
  if (entry.linkTarget) flags |= FLAG.linkTarget
  if (entry.hardLinkTo) flags |= FLAG.hardLink
  if (entry.device) flags |= FLAG.device
  if (entry.xattrs?.length) flags |= FLAG.xattrs
  out.sized(entry.path).u8(TYPES.indexOf(entry.type)).u8(flags)
  out.varint(entry.mode).varint(entry.uid).varint(entry.gid).i64(mtimeNs).varint(size)
  if (entry.linkTarget) out.sized(entry.linkTarget)
  if (entry.hardLinkTo) out.sized(entry.hardLinkTo)
  if (entry.device) out.varint(entry.device.major).varint(entry.device.minor)
  if (entry.xattrs?.length) {
    out.varint(entry.xattrs.length)
    for (const { name, value } of entry.xattrs) out.sized(name).sized(value)
  }
  if (out.length > LIMITS.entry) {
    throw new HoldfastError('too_large', `${printable(entry.path)} has more attributes than a backup can hold`, {
      hint: 'Leave the path out of the source, or remove extended attributes; 768 KiB are the most.',
    })
  }
}

/** Untrusted: refuses paths that could leave the tree. The result holds views of `bytes`. */
export function readEntry(bytes: Buffer, fail: (what: string) => Error): TreeEntry {
  const reader = new ByteReader(bytes, fail)
  const path = checkPath(reader.sized(LIMITS.entry), fail)
  const type = TYPES[reader.u8()]
  const flags = reader.u8()
  if (type === undefined || flags > 15) throw fail('an entry of unknown type')
  const mode = reader.varint(0o7777)
  const uid = reader.varint(0xffff_ffff)
  const gid = reader.varint(0xffff_ffff)
  const mtimeNs = reader.i64()
  const size = reader.varint()
  const linkTarget = flags & FLAG.linkTarget ? reader.sized(LIMITS.entry) : undefined
  const hardLinkTo = flags & FLAG.hardLink ? checkPath(reader.sized(LIMITS.entry), fail) : undefined
  const device = flags & FLAG.device ? { major: reader.varint(0xffff_ffff), minor: reader.varint(0xffff_ffff) } : undefined
  const xattrs = flags & FLAG.xattrs ? readXattrs(reader) : undefined
  if (reader.left > 0) throw fail('an entry is followed by something else')
  if ((type === 'symlink') !== (linkTarget !== undefined)) throw fail('an entry has a link target without being a link, or none')
  if (linkTarget?.includes(0)) throw fail('an entry has a NUL in its link target')
  return { path, type, mode, uid, gid, mtimeNs, size, linkTarget, hardLinkTo, device, xattrs }
}

function readXattrs(reader: ByteReader): Array<{ name: Buffer; value: Buffer }> {
  const count = reader.varint(MAX_XATTRS)
  const xattrs: Array<{ name: Buffer; value: Buffer }> = []
  for (let n = 0; n < count; n++) xattrs.push({ name: reader.sized(LIMITS.entry), value: reader.sized(LIMITS.entry) })
  return xattrs
}

function checkPath(path: Buffer, fail: (what: string) => Error): Buffer {
  if (path.length === 0) return path
  if (path.includes(0)) throw fail('an entry has a NUL in its path')
  // latin1 keeps every byte one character
  for (const segment of path.toString('latin1').split('/')) {
    if (segment === '' || segment === '.' || segment === '..') throw fail('an entry has a path that may leave the tree')
  }
  return path
}

/** For messages: names are raw bytes. */
export const printable = (path: Buffer): string => JSON.stringify(path.toString('utf8').slice(0, 300))
