import { hash } from 'node:crypto'
import type { TreeEntry } from '../../../shared/artifacts.ts'
import type { Fingerprint } from '../../../shared/results.ts'

const COUNTED = { file: 'files', directory: 'folders', symlink: 'links' } as const
const NONE = Buffer.alloc(0)

/**
 * Counts of a tree, and a digest of every entry's path, type, and size or link. The digest is the exclusive or of one
 * SHA-256 for each entry, so that an entry can be taken out again; paths are unique, so none cancels another. It shows
 * loss and mistakes; what an attacker changes is found by the digests of the contents.
 */
export class Tally {
  readonly #counts = { files: 0, folders: 0, links: 0, special: 0 }
  readonly #digest = Buffer.alloc(32)
  #room = Buffer.alloc(1024)

  add(entry: TreeEntry): void {
    this.#apply(entry, 1)
  }

  /** Takes out what was added with exactly this path, type, size and link. */
  remove(entry: TreeEntry): void {
    this.#apply(entry, -1)
  }

  fingerprint(): Fingerprint {
    return { counts: { ...this.#counts }, facts: { entries_digest: this.#digest.toString('hex') } }
  }

  #apply(entry: TreeEntry, step: 1 | -1): void {
    const kind = entry.type in COUNTED ? COUNTED[entry.type as keyof typeof COUNTED] : 'special'
    this.#counts[kind] += step
    const head = `${entry.type} ${entry.size} ${entry.path.length} `
    const one = hash('sha256', this.#joined(head, entry.path, entry.linkTarget ?? NONE), 'latin1')
    for (let i = 0; i < 32; i++) (this.#digest[i] as number) ^= one.charCodeAt(i)
  }

  /** One hash of joined bytes costs a third of a Hash object that they are given to. Valid until the next call. */
  #joined(head: string, path: Buffer, link: Buffer): Buffer {
    const length = head.length + path.length + link.length
    if (length > this.#room.length) this.#room = Buffer.alloc(length * 2)
    const at = this.#room.write(head, 'latin1')
    link.copy(this.#room, at + path.copy(this.#room, at))
    return this.#room.subarray(0, length)
  }
}
