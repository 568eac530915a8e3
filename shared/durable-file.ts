import { randomUUID } from 'node:crypto'
import { link, open, rename, rm } from 'node:fs/promises'
import path from 'node:path'

/**
 * Puts a file in place whole or not at all, and so that it is still there after a power cut: written beside, synced,
 * renamed, and its folder synced too (a rename alone is not durable: fsync(2), rename(2)).
 */
export async function writeDurably(file: string, content: string | Buffer, mode = 0o600): Promise<void> {
  await putInPlace(file, content, mode, (draft) => rename(draft, file))
}

/** The same, but what is there already stays: false then. Of several that create it at once, one wins. */
export async function createDurably(file: string, content: string | Buffer, mode = 0o600): Promise<boolean> {
  let created = true
  await putInPlace(file, content, mode, async (draft) => {
    // link, not rename: it fails when the name is taken
    await link(draft, file).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error
      created = false
    })
    await rm(draft, { force: true })
  })
  return created
}

async function putInPlace(file: string, content: string | Buffer, mode: number, place: (draft: string) => Promise<void>) {
  const draft = `${file}.${randomUUID()}.draft`
  try {
    const handle = await open(draft, 'wx', mode)
    try {
      await handle.writeFile(content)
      await handle.sync()
    } finally {
      await handle.close()
    }
    await place(draft)
  } catch (error) {
    await rm(draft, { force: true })
    throw error
  }
  await syncFolder(path.dirname(file))
}

/** Makes the folder's entries survive a power cut: without it a file that was synced itself can still be gone. */
export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}
