import { existsSync, lstatSync, readFileSync, realpathSync } from 'node:fs'
import path from 'node:path'
import { HoldfastError } from '../../../shared/errors.ts'
import type { Place } from '../engine.ts'
import { isWithin } from './beneath.ts'
import { type FilesConfig, locate } from './config.ts'
import { fileError } from './errors.ts'

export interface Target {
  /** Its folder's real path: renames work in it. */
  readonly parent: string
  readonly path: string
  readonly exists: boolean
}

/** Where a restore writes, links on the way resolved. Throws when that lies outside of what is allowed. */
export function findTarget(place: Place<FilesConfig>): Target {
  const { path: wanted, root } = locate(place)
  try {
    // the source's own place may be given by way of a link: what is replaced is the folder, not the link
    const real = place.targetName === null && existsSync(wanted) ? realpathSync(wanted) : wanted
    const parent = realpathSync(path.dirname(real))
    if (root && !isWithin(Buffer.from(parent), Buffer.from(realpathSync(root)))) {
      throw new HoldfastError('invalid_name', `${wanted} leads out of ${root} by way of a link`, {
        hint: 'Restore into a folder that really lies in one of the restore_roots.',
      })
    }
    if (real === '/') {
      throw new HoldfastError('not_supported', 'the root folder of the host cannot be replaced', {
        hint: 'Restore into another name, or choose parts one folder further down.',
      })
    }
    const target = path.join(parent, path.basename(real))
    return { parent, path: target, exists: lstatSync(target, { throwIfNoEntry: false }) !== undefined }
  } catch (error) {
    throw fileError(error, wanted)
  }
}

export function refuseExisting(target: Target): never {
  throw new HoldfastError('source_exists', `${target.path} exists`, {
    hint: 'Restore into another name, or with --overwrite to replace it as a whole.',
  })
}

/** Mount points at or in a folder: replacing it would hide or lose what is mounted there. Linux only; elsewhere none are known. */
export function mountsWithin(folder: string): string[] {
  if (!existsSync('/proc/self/mountinfo')) return []
  const wanted = Buffer.from(folder)
  return readFileSync('/proc/self/mountinfo', 'latin1')
    .split('\n')
    .flatMap((line) => {
      // proc_pid_mountinfo(5): field 5, with blanks and backslashes in octal
      const field = line.split(' ')[4]
      if (!field) return []
      const mount = Buffer.from(
        field.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8))),
        'latin1',
      )
      return isWithin(mount, wanted) ? [mount.toString('utf8')] : []
    })
}

export function refuseMounts(target: Target): void {
  const mounts = mountsWithin(target.path)
  if (mounts.length === 0) return
  throw new HoldfastError('conflict', `${mounts[0]} is a mount point, and cannot be swapped with its folder`, {
    hint: 'Restore into another name, or unmount it first.',
    context: { mounts: mounts.slice(0, 20) },
  })
}
