import { mkdir, open, readdir, rename } from 'node:fs/promises'
import path from 'node:path'

/** After this the folder's entries (names made, renamed or removed) outlive a power cut. */
export async function fsyncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** Every file and folder below, then the folder itself. */
export async function fsyncTree(folder: string): Promise<void> {
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const at = path.join(folder, entry.name)
    if (entry.isDirectory()) await fsyncTree(at)
    else if (entry.isFile()) await fsyncFolder(at)
  }
  await fsyncFolder(folder)
}

/** The file is the old one or the new one, whole, at any moment and after a power cut. Mode 0600. */
export async function writeFileSynced(
  file: string,
  pieces: Iterable<string | Buffer> | AsyncIterable<string | Buffer>,
): Promise<void> {
  await mkdir(path.dirname(file), { recursive: true, mode: 0o700 })
  const draft = `${file}.draft`
  const handle = await open(draft, 'w', 0o600)
  try {
    for await (const piece of pieces) await handle.appendFile(piece)
    await handle.sync()
  } finally {
    await handle.close()
  }
  await rename(draft, file)
  await fsyncFolder(path.dirname(file))
}
