import { readdir } from 'node:fs/promises'
import path from 'node:path'
import { syncFolder } from '../../shared/durable-file.ts'

/** Every file and folder below, then the folder itself. */
export async function syncTree(folder: string): Promise<void> {
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const at = path.join(folder, entry.name)
    if (entry.isDirectory()) await syncTree(at)
    // opened for reading, a file is synced as a folder is
    else if (entry.isFile()) await syncFolder(at)
  }
  await syncFolder(folder)
}
