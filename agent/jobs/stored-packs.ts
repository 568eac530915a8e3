import { open } from 'node:fs/promises'
import { z } from 'zod'
import { syncFolder } from '../../shared/durable-file.ts'
import { readJson } from '../../shared/json.ts'
import type { StoredPack } from '../../shared/repository/repository.ts'

/**
 * The packs that the target has confirmed for a job, a line each: written by the agent, read by the job's process one line at a time. Those of a
 * terabyte are more than half a gigabyte of text, which neither may hold.
 */

const base64 = z.string().regex(/^[A-Za-z0-9+/]*={0,2}$/)

const packSchema = z.strictObject({
  attempt: z.number().int().positive(),
  name: z.string(),
  size: z.number().int().nonnegative(),
  sha256: base64,
  chunks: base64,
})

/**
 * Remembers a confirmed pack. On the disk when it returns, at the cost of one sync for 16 MiB that went over a network: else a host that loses its power
 * would send again whatever was stored within the half minute before. `folder` is the file's.
 */
export async function rememberPack(folder: string, file: string, attempt: number, pack: StoredPack): Promise<void> {
  // the attempt comes first: whoever looks for another one's need not parse the line
  const line = {
    attempt,
    name: pack.name,
    size: pack.size,
    sha256: pack.sha256.toString('base64'),
    chunks: pack.chunks.toString('base64'),
  }
  const handle = await open(file, 'a', 0o600)
  try {
    const isNew = (await handle.stat()).size === 0
    // a line of its own, whatever a crash has left of the one before
    await handle.appendFile(`${isNew ? '' : '\n'}${JSON.stringify(line)}\n`)
    await handle.datasync()
    if (isNew) await syncFolder(folder)
  } finally {
    await handle.close()
  }
}

/** Those of one attempt. A torn line (a crash while it was written) is left out: its pack is sent again. */
export async function* storedPacks(file: string, attempt: number): AsyncGenerator<StoredPack> {
  const handle = await open(file, 'r').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null
    throw error
  })
  if (!handle) return
  try {
    for await (const line of handle.readLines({ autoClose: false })) {
      if (!line.startsWith(`{"attempt":${attempt},`)) continue
      const parsed = readJson(line, packSchema)
      if (!parsed.success) continue
      const { name, size, sha256, chunks } = parsed.data
      yield { name, size, sha256: Buffer.from(sha256, 'base64'), chunks: Buffer.from(chunks, 'base64') }
    }
  } finally {
    await handle.close()
  }
}
