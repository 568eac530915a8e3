import { closeSync, constants, linkSync, mkdirSync, openSync, symlinkSync, unlinkSync } from 'node:fs'
import type { Extent, TreeEntry, TreeOutput } from '../../../shared/artifacts.ts'
import { HoldfastError } from '../../../shared/errors.ts'
import type { Run } from '../engine.ts'
import { applyAttributes } from './attributes.ts'
import { Beneath, isWithin } from './beneath.ts'
import { hasCode, makeNode } from './posix.ts'
import { printable, type Report } from './report.ts'
import { SteadyWriter } from './steady-writer.ts'
import { requireSafe } from './untrusted.ts'

const NEW_FILE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW

/** Makes a tree's entries, in the order of the backup, in a folder that was empty. */
export class TreeMaker {
  readonly #tree: Beneath
  /** Of its own, since a new name and an old one of the same file lie in two folders. */
  readonly #linked: Beneath
  readonly #run: Run
  readonly #report: Report
  /** Folders whose attributes come once they are full: their time would change, and they may forbid writing. */
  readonly #open: TreeEntry[] = []
  readonly #unnamed: Buffer[] = []

  constructor(root: Buffer, run: Run, report: Report) {
    this.#tree = new Beneath(root)
    this.#linked = new Beneath(root)
    this.#run = run
    this.#report = report
  }

  async add(entry: TreeOutput): Promise<void> {
    requireSafe(entry)
    this.#finishAllBut(entry.path)
    try {
      await this.#make(entry)
    } catch (error) {
      this.#judge(entry, error)
    }
  }

  /** A file that is there to be linked to, until `finish` takes this name of it away. */
  async addUnnamed(entry: TreeOutput): Promise<void> {
    requireSafe(entry)
    this.#unnamed.push(entry.path)
    await this.#make(entry)
  }

  /** Attributes of the folders that are still open. */
  finish(): void {
    for (const path of this.#unnamed) unlinkSync(this.#tree.entry(path))
    this.#finishAllBut(null)
  }

  close(): void {
    this.#tree.close()
    this.#linked.close()
  }

  async #make(entry: TreeOutput): Promise<void> {
    if (entry.type === 'directory') {
      if (entry.path.length > 0) mkdirSync(this.#tree.entry(entry.path), 0o700)
      this.#open.push(entry)
    } else if (entry.hardLinkTo) {
      linkSync(this.#linked.entry(entry.hardLinkTo), this.#tree.entry(entry.path))
    } else if (entry.type === 'file') {
      await this.#makeFile(entry)
    } else {
      if (entry.type === 'symlink') symlinkSync(entry.linkTarget ?? Buffer.alloc(0), this.#tree.entry(entry.path))
      else makeNode(this.#tree.entry(entry.path), entry.type, 0o600, entry.device ?? { major: 0, minor: 0 })
      applyAttributes(this.#tree.entry(entry.path), null, entry, this.#report)
    }
  }

  async #makeFile(entry: TreeOutput): Promise<void> {
    const fd = openSync(this.#tree.entry(entry.path), NEW_FILE, 0o600)
    const writer = new SteadyWriter(fd, entry.size)
    try {
      let end = 0
      if (entry.read) for await (const extent of entry.read()) end = await this.#write(writer, entry, extent, end)
      await writer.end(entry.size)
      applyAttributes(this.#tree.entry(entry.path), fd, entry, this.#report)
    } finally {
      await writer.settle()
      closeSync(fd)
    }
  }

  /** Returns where the extent ends. */
  async #write(writer: SteadyWriter, entry: TreeEntry, extent: Extent, from: number): Promise<number> {
    this.#run.signal.throwIfAborted()
    const { bytes } = extent
    const end = extent.offset + bytes.length
    if (extent.offset < from || end > entry.size) {
      throw new HoldfastError('backup_invalid', `the extents of ${printable(entry.path)} contradict its size`, {
        hint: 'Verify the backup, and restore another one.',
      })
    }
    await writer.write(extent)
    this.#run.progress({ writtenBytes: bytes.length })
    return end
  }

  #finishAllBut(path: Buffer | null): void {
    for (;;) {
      const last = this.#open[this.#open.length - 1]
      if (!last || (path && isWithin(path, last.path))) return
      this.#open.pop()
      const fd = openSync(this.#tree.folder(last.path), constants.O_RDONLY | constants.O_DIRECTORY)
      try {
        applyAttributes(this.#tree.entry(last.path), fd, last, this.#report)
      } finally {
        closeSync(fd)
      }
    }
  }

  /** An entry that this host cannot have is told and left out; a contradiction in the backup ends the restore. */
  #judge(entry: TreeEntry, error: unknown): void {
    if (hasCode(error, 'EEXIST', 'ENOTDIR', 'ELOOP') || (hasCode(error, 'ENOENT') && !entry.hardLinkTo)) {
      throw new HoldfastError('backup_invalid', `entry ${printable(entry.path)} contradicts the entries before it`, {
        hint: 'Verify the backup, and restore another one.',
        cause: error,
      })
    }
    const absent = entry.hardLinkTo !== undefined && hasCode(error, 'ENOENT', 'EMLINK')
    if (!absent && !hasCode(error, 'EPERM', 'EILSEQ', 'EINVAL', 'ENAMETOOLONG', 'ENOTSUP', 'ENOSYS')) throw error
    this.#report.say('entry_not_restored', entry.path, error)
  }
}
