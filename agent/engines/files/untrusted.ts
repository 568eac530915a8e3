import type { TreeEntry } from '../../../shared/artifacts.ts'
import { HoldfastError } from '../../../shared/errors.ts'
import { printable } from './report.ts'

const MAX_PATH_BYTES = 64 * 1024
const MAX_NAME_BYTES = 255
const MAX_LINK_BYTES = 4096

/** A backup is untrusted input: throws `backup_invalid` for an entry that no tree can hold. Where links lead is Beneath's affair. */
export function requireSafe(entry: TreeEntry): void {
  const problem =
    pathProblem(entry.path) ??
    (entry.path.length === 0 && entry.type !== 'directory' ? 'is a root that is no folder' : null) ??
    (entry.hardLinkTo && pathProblem(entry.hardLinkTo) ? 'is another name of something outside of the tree' : null) ??
    (entry.type === 'symlink' && !entry.hardLinkTo && !isLink(entry.linkTarget) ? 'is a link to nothing' : null) ??
    (Number.isSafeInteger(entry.size) && entry.size >= 0 ? null : 'has a size that no file has') ??
    (entry.mode >= 0 && entry.mode <= 0o7777 ? null : 'has a mode that no file has')
  if (!problem) return
  throw new HoldfastError('backup_invalid', `entry ${printable(entry.path)} ${problem}`, {
    hint: 'Nothing that this program backs up looks so: find out who wrote the backup.',
  })
}

function pathProblem(path: Buffer): string | null {
  if (path.length === 0) return null
  if (path.length > MAX_PATH_BYTES) return 'has a path that is too long'
  if (path.includes(0)) return 'has a NUL in its path'
  for (let start = 0; start <= path.length; ) {
    const slash = path.indexOf(0x2f, start)
    const end = slash < 0 ? path.length : slash
    const name = path.subarray(start, end).toString('latin1')
    if (name === '' || name === '.' || name === '..') return 'has an empty, "." or ".." segment in its path'
    if (name.length > MAX_NAME_BYTES) return 'has a name that is too long'
    start = end + 1
  }
  return null
}

function isLink(target: Buffer | undefined): boolean {
  return target !== undefined && target.length > 0 && target.length <= MAX_LINK_BYTES && !target.includes(0)
}
