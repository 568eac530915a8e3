import type { BackupSource, TreeEntry, TreeOutput } from '../../../shared/artifacts.ts'
import { randomBase32 } from '../../../shared/ids.ts'

/**
 * Chosen parts may hold a further name of a file whose first name, with the content, was not chosen. Such a file is made
 * under a name of its own first, which the chosen names are linked to, and which is taken away at the end.
 * Finding them needs a pass over the entries before anything is fetched.
 */
export class LinkedParts {
  /** Path of a first name that was not chosen: the name it gets. */
  readonly #unnamed = new Map<string, Buffer>()

  static async find(source: BackupSource, tree: string, accept: (entry: TreeEntry) => boolean): Promise<LinkedParts> {
    const linked = new LinkedParts()
    const chosen = new Set<string>()
    const look = (entry: TreeEntry): boolean => {
      if (!accept(entry)) return false
      const first = entry.hardLinkTo?.toString('latin1')
      if (first === undefined) chosen.add(entry.path.toString('latin1'))
      else if (!chosen.has(first)) linked.#unnamed.set(first, Buffer.from(`.holdfast-${randomBase32(16)}`))
      return false
    }
    for await (const entry of source.openTree(tree, look)) throw new Error(`entry ${entry.path} was not asked for`)
    return linked
  }

  /** True for a file that is needed for its content alone. */
  needs(entry: TreeEntry): boolean {
    return this.#unnamed.has(entry.path.toString('latin1'))
  }

  /** The entry with the names it is made with. */
  renamed(entry: TreeOutput): TreeOutput {
    const path = this.#unnamed.get(entry.path.toString('latin1'))
    const first = entry.hardLinkTo && this.#unnamed.get(entry.hardLinkTo.toString('latin1'))
    return { ...entry, ...(path ? { path } : {}), ...(first ? { hardLinkTo: first } : {}) }
  }
}
