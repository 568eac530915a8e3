import { createHash } from 'node:crypto'
import { closeSync, constants, fstatSync, lstatSync, mkdirSync, openSync, readdirSync, renameSync, statfsSync } from 'node:fs'
import path from 'node:path'
import { HoldfastError } from '../../../shared/errors.ts'
import { randomBase32 } from '../../../shared/ids.ts'
import { NEW_PREFIX, OLD_PREFIX } from './config.ts'
import { exchange, hasCode, removeAttribute, renameToNew, syncFileSystem, tryLock } from './posix.ts'
import { removeTree } from './remove.ts'
import type { Report, ReportKind } from './report.ts'
import { refuseExisting, type Target } from './target.ts'

/** What a restore has left that was killed. Locked, so that no other takes it. */
interface Leftover {
  readonly path: Buffer
  readonly fd: number
}

/** Of leftovers, the newest: each costs room until the tree is there. */
const KEPT = 2

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
  readonly #leftovers: readonly Leftover[]

  private constructor(target: Target, name: string, leftovers: readonly Leftover[]) {
    this.#target = target
    this.#leftovers = leftovers
    this.path = Buffer.from(path.join(target.parent, name))
    mkdirSync(this.path, 0o700)
    this.#fd = openSync(this.path, constants.O_RDONLY | constants.O_DIRECTORY)
    tryLock(this.#fd)
    // inherited from the parent's default access list, and from here by everything within
    for (const list of ['system.posix_acl_default', 'system.posix_acl_access']) removeAttribute(this.path, Buffer.from(list))
  }

  /** What killed restores have left there is kept where there is room for `bytes` besides. */
  static async open(target: Target, bytes: number): Promise<Staging> {
    const leftovers = await takeOver(target)
    const { bavail, bsize } = statfsSync(target.parent)
    if (bavail * bsize < bytes) await removeAll(leftovers.splice(0))
    return new Staging(target, `${NEW_PREFIX}${tag(target)}-${randomBase32(10)}`, leftovers)
  }

  /** Where content of the new tree may lie already: what was left in the middle first. */
  get earlier(): Buffer[] {
    const left = this.#leftovers.map(({ path }) => path)
    return this.#target.exists ? [...left, Buffer.from(this.#target.path)] : left
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

  /** Removes what is under the staging name, the unfinished tree or what was replaced, and what was found there. */
  async dispose(report: Report): Promise<void> {
    await removeOr(this.path, report, 'old_tree_left')
    closeSync(this.#fd)
    for (const { path: leftover, fd } of this.#leftovers) {
      await removeOr(leftover, report, 'leftover_left')
      closeSync(fd)
    }
  }
}

async function removeOr(folder: Buffer, report: Report, kind: ReportKind): Promise<void> {
  try {
    await removeTree(folder)
  } catch (error) {
    if (!(error instanceof Error && 'syscall' in error)) throw error
    report.say(kind, folder, error)
  }
}

/** Ends what a killed restore into the same target began: puts back what it had moved away, removes what it had made. */
export async function clean(target: Target): Promise<void> {
  await removeAll(await takeOver(target))
}

/** The same, but the newest of what they had made is given to the one that comes now, which removes it. */
async function takeOver(target: Target): Promise<Leftover[]> {
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
  const lock = (name: string) => lockAbandoned(Buffer.from(path.join(target.parent, name))) ?? []
  await removeAll(old.flatMap(lock))
  const left = unfinished.flatMap(lock)
  left.sort((a, b) => fstatSync(b.fd).mtimeMs - fstatSync(a.fd).mtimeMs)
  await removeAll(left.splice(KEPT))
  return left
}

async function removeAll(leftovers: readonly Leftover[]): Promise<void> {
  for (const { path: leftover, fd } of leftovers) {
    try {
      await removeTree(leftover)
    } finally {
      closeSync(fd)
    }
  }
}

/** Whether no living process has it locked. */
export function isAbandoned(folder: Buffer): boolean {
  const locked = lockAbandoned(folder)
  if (locked) closeSync(locked.fd)
  return locked !== null
}

function lockAbandoned(folder: Buffer): Leftover | null {
  let fd: number
  try {
    fd = openSync(folder, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  } catch (error) {
    // gone, or not ours to touch
    if (hasCode(error, 'ENOENT', 'EACCES', 'ELOOP', 'ENXIO')) return null
    throw error
  }
  if (tryLock(fd)) return { path: folder, fd }
  closeSync(fd)
  return null
}

/** Target names may be too long to repeat. */
function tag(target: Target): string {
  return createHash('sha256').update(target.path).digest('hex').slice(0, 12)
}
