import { constants } from 'node:fs'
import { lstat, open } from 'node:fs/promises'
import { z } from 'zod'
import { createDurably, writeDurably } from '../../../shared/durable-file.ts'
import { HoldfastError } from '../../../shared/errors.ts'
import { readJson } from '../../../shared/json.ts'

const keyringSchema = z.strictObject({
  format: z.literal(1),
  current: z.string().max(40),
  keys: z.array(z.strictObject({ id: z.string().min(1).max(40), key: z.base64().length(44) })).max(1000),
})
export type KeyringFile = z.infer<typeof keyringSchema>

/** Null when there is none. Refused when others than its owner may read it: a key that leaked must not be trusted silently. */
export async function readKeyringFile(path: string): Promise<KeyringFile | null> {
  const text = await readOwnFile(path)
  if (text === null) return null
  const parsed = readJson(text, keyringSchema)
  if (parsed.success && parsed.data.keys.some((key) => key.id === parsed.data.current)) return parsed.data
  throw new HoldfastError('key_missing', `keyring ${path} cannot be read as a keyring`, {
    hint: 'Put the file back from your copy, or recover the keys with a recovery identity.',
    cause: parsed.success ? undefined : parsed.error,
  })
}

async function readOwnFile(path: string): Promise<string | null> {
  const stat = await lstat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null
    throw error
  })
  if (!stat) return null
  if ((stat.mode & 0o077) !== 0) {
    throw new HoldfastError('invalid_config', `keyring ${path} may be read by others than its owner`, {
      hint: `Run chmod 600 ${path}, and change the key if others had access.`,
    })
  }
  const handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW)
  try {
    return await handle.readFile('utf8')
  } finally {
    await handle.close()
  }
}

/** `create` never replaces: of two control planes that start at once on a shared folder, both use the first one's key. */
export async function writeKeyringFile(path: string, file: KeyringFile, how: 'create' | 'replace'): Promise<void> {
  const text = `${JSON.stringify(file, null, 2)}\n`
  if (how === 'create') await createDurably(path, text)
  else await writeDurably(path, text)
}
