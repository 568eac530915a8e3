import { closeSync, constants, fstatSync, lstatSync, openSync } from 'node:fs'
import type { EarlierFile, EarlierTree, TreeEntry } from '../../../shared/artifacts.ts'
import { Beneath } from './beneath.ts'
import { readPiece } from './content.ts'
import { requireSafe } from './untrusted.ts'

/** Non-blocking: a FIFO put in the place of a file would wait for a writer for ever. */
const OPEN_FILE = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK

interface Root {
  readonly tree: Beneath
  readonly device: bigint
}

/**
 * Files of folders that lie where a tree is restored: what is to be replaced, and what restores that were killed have left. Their bytes are copied and never
 * linked, not even as shared blocks: who has the old file open would go on to write into the new one. Whatever cannot be read here is as good as absent.
 */
export class EarlierFolders implements EarlierTree {
  readonly #roots: Root[] = []

  /** The likeliest first. */
  constructor(folders: readonly Buffer[]) {
    for (const folder of folders) {
      const root = attempt(() => openRoot(folder))
      if (root) this.#roots.push(root)
    }
  }

  open(entry: TreeEntry): EarlierFile[] {
    requireSafe(entry)
    return this.#roots.flatMap((root) => attempt(() => openEarlier(root, entry.path)) ?? [])
  }

  close(): void {
    for (const { tree } of this.#roots.splice(0)) tree.close()
  }
}

function openRoot(folder: Buffer): Root {
  const tree = new Beneath(folder)
  return { tree, device: lstatSync(tree.entry(Buffer.alloc(0)), { bigint: true }).dev }
}

/** A regular file of the folder's own file system; null where something else has that name, or nothing. */
function openEarlier({ tree, device }: Root, path: Buffer): EarlierFile | null {
  // looked at before it is opened, since opening a device may do something
  const listed = lstatSync(tree.entry(path), { bigint: true, throwIfNoEntry: false })
  if (!listed?.isFile() || listed.dev !== device) return null
  const fd = openSync(tree.entry(path), OPEN_FILE)
  const opened = fstatSync(fd, { bigint: true })
  if (!opened.isFile() || opened.dev !== device || opened.ino !== listed.ino) {
    closeSync(fd)
    return null
  }
  return {
    size: Number(opened.size),
    read: async (into, offset) => (await attempted(readPiece(fd, offset, into)))?.length === into.length,
    close: () => closeSync(fd),
  }
}

/** Null where the file system refuses: then it is fetched. */
function attempt<T>(work: () => T): T | null {
  try {
    return work()
  } catch (error) {
    return refusedBySystem(error)
  }
}

async function attempted<T>(work: Promise<T>): Promise<T | null> {
  try {
    return await work
  } catch (error) {
    return refusedBySystem(error)
  }
}

function refusedBySystem(error: unknown): null {
  // Beneath throws ENOTDIR without a call where there are no handles
  if (error instanceof Error && 'code' in error && /^E[A-Z0-9]+$/.test(String(error.code))) return null
  throw error
}
