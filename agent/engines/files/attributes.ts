import { chmodSync, fchmodSync, lchownSync } from 'node:fs'
import type { TreeEntry } from '../../../shared/artifacts.ts'
import { hasCode, setAttribute, setModified } from './posix.ts'
import type { Report } from './report.ts'

const USER = Buffer.from('user.')

/**
 * Gives a new entry its owner, mode, attributes and time, in this order: a change of owner clears set-uid and
 * capabilities; `user.` attributes need the right to write, which the mode may take away; an access list sets the
 * mode's group bits to its mask, which is what the mode holds already; each of them touches the times.
 * `address` names the entry itself (nothing follows a link); `fd` is the open file or folder, null for the rest.
 */
export function applyAttributes(address: Buffer, fd: number | null, entry: TreeEntry, report: Report): void {
  const owned = giveOwner(address, entry, report)
  const attributes = entry.xattrs ?? []
  const isUser = ({ name }: { name: Buffer }) => name.subarray(0, USER.length).equals(USER)
  let complete = giveAttributes(address, attributes.filter(isUser))
  if (entry.type !== 'symlink') {
    // set-uid for whoever runs the agent is not what the backup says
    const mode = owned || entry.type === 'directory' ? entry.mode : entry.mode & 0o1777
    if (fd === null) chmodSync(address, mode)
    else fchmodSync(fd, mode)
  }
  const others = attributes.filter((one) => !isUser(one))
  complete = giveAttributes(address, others) && complete
  if (!complete) report.say('xattr_not_restored', entry.path)
  setModified(address, entry.mtimeNs)
}

function giveOwner(address: Buffer, entry: TreeEntry, report: Report): boolean {
  try {
    lchownSync(address, entry.uid, entry.gid)
    return true
  } catch (error) {
    if (!hasCode(error, 'EPERM', 'EINVAL')) throw error
    report.say('owner_not_restored', entry.path, error)
    return false
  }
}

function giveAttributes(address: Buffer, attributes: ReadonlyArray<{ name: Buffer; value: Buffer }>): boolean {
  let complete = true
  for (const { name, value } of attributes) {
    try {
      setAttribute(address, name, value)
    } catch (error) {
      if (!hasCode(error, 'EPERM', 'EACCES', 'ENOTSUP', 'EOPNOTSUPP', 'EINVAL', 'ERANGE', 'E2BIG', 'ENOSPC')) throw error
      complete = false
    }
  }
  return complete
}
