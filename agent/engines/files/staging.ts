import { createHash } from 'node:crypto'
import { closeSync, constants, lstatSync, mkdirSync, openSync, readdirSync, renameSync } from 'node:fs'
import path from 'node:path'
import { HoldfastError } from '../../../shared/errors.ts'
import { randomBase32 } from '../../../shared/ids.ts'
import { NEW_PREFIX, OLD_PREFIX } from './config.ts'
import { exchange, hasCode, removeAttribute, renameToNew, syncFileSystem, tryLock } from './posix.ts'
import { removeTree } from './remove.ts'
import type { Report } from './report.ts'
import { refuseExisting, type Target } from './target.ts'

/**
 * A folder beside the target, in which the new tree is made and from which it is swapped in. Locked as long as its
 * process lives, so that what a killed one left behind is told from what another is working on.
 *
 * Names: `.holdfast-new-<target>-<random>` is never looked for by anyone but the cleaning; `.holdfast-old-<target>-<random>`
 * exists only where two names cannot be exchanged at one moment, between two renames.
 */
export class Staging {
  readonly path: Buffer
  readonly #target: Target
  readonly #fd: number

  private constructor(target: Target, name: string) {
    this.#target = target
    this.path = Buffer.from(path.join(target.parent, name))
    mkdirSync(this.path, 0o700)
    this.#fd = openSync(this.path, constants.O_RDONLY | constants.O_DIRECTORY)
    tryLock(this.#fd)
    // inherited from the parent's default access list, and from here by everything within
    for (const list of ['system.posix_acl_default', 'system.posix_acl_access']) removeAttribute(this.path, Buffer.from(list))
  }

  static async open(target: Target): Promise<Staging> {
    await clean(target)
    return new Staging(target, `${NEW_PREFIX}${tag(target)}-${randomBase32(10)}`)
  }

  /** Everything in it is on the disk. */
  sync(): Promise<void> {
    return syncFileSystem(this.#fd)
  }

  /** The new tree takes the target's name. What was there is in the staging folder afterwards, until `dispose`. */
  swap(): void {
    const to = Buffer.from(this.#target.path)
    if (!this.#target.exists) return this.#place(to)
    if (!exchange(this.path, to)) this.#swapByRenames(to)
  }

  #place(to: Buffer): void {
    try {
      if (renameToNew(this.path, to)) return
      if (lstatSync(to, { throwIfNoEntry: false })) refuseExisting(this.#target)
      renameSync(this.path, to)
    } catch (error) {
      if (hasCode(error, 'EEXIST', 'ENOTEMPTY')) refuseExisting(this.#target)
      throw error
    }
  }

  #swapByRenames(to: Buffer): void {
    const old = Buffer.from(path.join(this.#target.parent, `${OLD_PREFIX}${tag(this.#target)}-${randomBase32(10)}`))
    renameSync(to, old)
    try {
      renameSync(this.path, to)
    } catch (error) {
      renameSync(old, to)
      throw error
    }
    renameSync(old, this.path)
  }

  /** Removes what is under the staging name: the unfinished tree, or what was replaced. */
  async dispose(report: Report): Promise<void> {
    try {
      await removeTree(this.path)
    } catch (error) {
      if (!(error instanceof Error && 'syscall' in error)) throw error
      report.say('old_tree_left', this.path, error)
    } finally {
      closeSync(this.#fd)
    }
  }
}

/** Ends what a killed restore into the same target began: puts back what it had moved away, removes what it had made. */
export async function clean(target: Target): Promise<void> {
  const names = readdirSync(target.parent, { encoding: 'buffer' }).map(String)
  const old = names.filter((name) => name.startsWith(`${OLD_PREFIX}${tag(target)}-`))
  if (old[0] && !target.exists) {
    renameSync(path.join(target.parent, old[0]), target.path)
    throw new HoldfastError('source_exists', `${target.path} was put back: a restore had been ended between two renames`, {
      hint: 'Look at the plan again, then restart the restore.',
      retry: true,
    })
  }
  const unfinished = names.filter((name) => name.startsWith(`${NEW_PREFIX}${tag(target)}-`))
  for (const name of [...old, ...unfinished]) {
    const leftover = Buffer.from(path.join(target.parent, name))
    if (isAbandoned(leftover)) await removeTree(leftover)
  }
}

/** Whether no living process has it locked. */
export function isAbandoned(folder: Buffer): boolean {
  let fd: number
  try {
    fd = openSync(folder, constants.O_RDONLY | constants.O_NOFOLLOW)
  } catch (error) {
    // gone, or not ours to touch
    if (hasCode(error, 'ENOENT', 'EACCES', 'ELOOP', 'ENXIO')) return false
    throw error
  }
  try {
    return tryLock(fd)
  } finally {
    closeSync(fd)
  }
}

/** Target names may be too long to repeat. */
function tag(target: Target): string {
  return createHash('sha256').update(target.path).digest('hex').slice(0, 12)
}
