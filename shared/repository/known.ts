import { constants } from 'node:fs'
import { copyFile, mkdir, open, readdir, rename, rm } from 'node:fs/promises'
import path from 'node:path'
import { isHoldfastError } from '../errors.ts'
import { BACKUP_ID } from '../ids.ts'
import { KnownFile } from './known-file.ts'
import { SEAL_MAGIC } from './known-layout.ts'
import type { KnownChunks } from './repository.ts'

/** The agent's known lists: one file for each backup that may become a base, in one folder of the source. */

const fileOf = (folder: string, id: string): string => path.join(folder, `${id}.known`)

/** Null when there is none, when it is damaged, or when it is of another manifest: then it is rebuilt, or the run is a full. */
export async function openKnown(folder: string, base: { id: string; manifestSha256: Buffer }): Promise<KnownChunks | null> {
  let known: KnownFile
  try {
    known = new KnownFile(fileOf(folder, base.id))
  } catch (error) {
    if (isHoldfastError(error, 'object_damaged') || isMissing(error)) return null
    throw error
  }
  if (known.baseId === base.id && known.baseManifestSha256.equals(base.manifestSha256)) return known
  await known.close()
  return null
}

/** After the commit is confirmed: seals what `finish` left in `scratch`, and puts it into the folder. May be repeated. */
export async function keepKnown(scratch: string, folder: string, backup: { id: string; manifestSha256: Buffer }): Promise<void> {
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const target = fileOf(folder, backup.id)
  const draft = `${target}.draft`
  // copied, so that a crash between the seal and the renaming leaves an unsealed file to begin with again
  await copyFile(path.join(scratch, 'known'), draft, constants.COPYFILE_FICLONE)
  const handle = await open(draft, 'a')
  try {
    // not `write`, which may write a part
    await handle.appendFile(Buffer.concat([SEAL_MAGIC, backup.manifestSha256]))
    await handle.sync()
  } finally {
    await handle.close()
  }
  await rename(draft, target)
  const directory = await open(folder, 'r')
  try {
    await directory.sync()
  } finally {
    await directory.close()
  }
}

/** Removes the lists of all other backups. */
export async function dropKnown(folder: string, keep: readonly string[]): Promise<void> {
  const names = await readdir(folder).catch((error: unknown) => {
    if (isMissing(error)) return []
    throw error
  })
  for (const name of names) {
    const id = name.split('.')[0] ?? ''
    if (BACKUP_ID.test(id) && !keep.includes(id)) await rm(path.join(folder, name), { force: true })
  }
}

const isMissing = (error: unknown): boolean => error instanceof Error && 'code' in error && error.code === 'ENOENT'
