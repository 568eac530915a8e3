import { mkdir, open, writeFile } from 'node:fs/promises'
import path from 'node:path'
import type { ArtifactInfo, BackupSource } from '../../shared/artifacts.ts'
import { HoldfastError } from '../../shared/errors.ts'

/** What was written for one artifact. `file` is null for a tree, which only its engine can write. */
export interface RawArtifact extends ArtifactInfo {
  readonly file: string | null
}

/**
 * Writes each stream of a backup into a new folder, as it is, and a list of them, `artifacts.json`. For engines whose server isn't at
 * hand. Names come out of the backup and are untrusted: files are numbered, and carry only the harmless part of a name.
 */
export async function writeRaw(source: BackupSource, folder: string, signal: AbortSignal): Promise<RawArtifact[]> {
  await mkdir(folder, { mode: 0o700 }).catch((cause: unknown) => {
    const exists = cause instanceof Error && 'code' in cause && cause.code === 'EEXIST'
    throw new HoldfastError(exists ? 'already_exists' : 'invalid_argument', `${folder} ${exists ? 'exists' : 'cannot be made'}`, {
      hint: 'Give a folder that does not exist yet, in one that does.',
      cause,
    })
  })
  const written: RawArtifact[] = []
  for await (const artifact of source.artifacts()) {
    signal.throwIfAborted()
    const file = artifact.kind === 'stream' ? `${String(written.length + 1).padStart(4, '0')}-${harmless(artifact.name)}` : null
    if (file) await writeStream(path.join(folder, file), source.openStream(artifact.name))
    written.push({ ...artifact, file })
  }
  const list = { fingerprint: source.fingerprint, artifacts: written }
  await writeFile(path.join(folder, 'artifacts.json'), `${JSON.stringify(list, null, 2)}\n`, { mode: 0o600 })
  return written
}

async function writeStream(file: string, bytes: AsyncIterable<Buffer>): Promise<void> {
  const handle = await open(file, 'wx', 0o600)
  try {
    // not `write`, which may write a part of it and say so without an error
    for await (const piece of bytes) await handle.appendFile(piece)
    await handle.sync()
  } finally {
    await handle.close()
  }
}

const harmless = (name: string): string => name.replace(/[^A-Za-z0-9._-]+/g, '_').slice(0, 80)
