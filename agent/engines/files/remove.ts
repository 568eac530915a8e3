import { chmodSync, lstatSync, readdirSync, rmdirSync, unlinkSync } from 'node:fs'
import { Beneath, join } from './beneath.ts'
import { hasCode } from './posix.ts'

const ENTRIES_PER_TURN = 256

/**
 * Removes a folder with all that is in it, or a single entry. Absent is not an error. Stays on its file system: a mount
 * point within throws EBUSY, and what is mounted there is kept. (`rm` of Node's fs loses names that are not UTF-8.)
 */
export async function removeTree(path: Buffer): Promise<void> {
  const stat = lstatSync(path, { throwIfNoEntry: false, bigint: true })
  if (!stat) return
  if (!stat.isDirectory()) return unlinkSync(path)
  const tree = new Beneath(path)
  const state = { tree, device: stat.dev, seen: 0 }
  try {
    await empty(state, Buffer.alloc(0))
  } finally {
    tree.close()
  }
  rmdirSync(path)
}

async function empty(state: { tree: Beneath; device: bigint; seen: number }, folder: Buffer): Promise<void> {
  for (const name of list(state.tree, folder)) {
    if (++state.seen % ENTRIES_PER_TURN === 0) await new Promise((resolve) => setImmediate(resolve))
    const path = join(folder, name)
    const stat = lstatSync(state.tree.entry(path), { bigint: true })
    if (!stat.isDirectory()) {
      unlinkSync(state.tree.entry(path))
      continue
    }
    if (stat.dev !== state.device) throw Object.assign(new Error('EBUSY: mount point'), { code: 'EBUSY', syscall: 'rmdir' })
    await empty(state, path)
    rmdirSync(state.tree.entry(path))
  }
}

function list(tree: Beneath, folder: Buffer): Buffer[] {
  try {
    chmodSync(tree.folder(folder), 0o700)
  } catch (error) {
    // not ours: whether it can be emptied shows below
    if (!hasCode(error, 'EPERM')) throw error
  }
  return readdirSync(tree.folder(folder), { encoding: 'buffer' })
}
