import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { z } from 'zod'
import { HoldfastError } from '../../shared/errors.ts'
import { readJson } from '../../shared/json.ts'
import { Secret } from '../../shared/secret.ts'
import type { Io } from './io.ts'

export interface ServerPlace {
  /** Without a slash at the end. */
  readonly url: string
  readonly apiKey: Secret
}

/** What a running server leaves in its home for the command line beside it. */
export const SERVER_FILE = 'server.json'
export const ADMIN_KEY_FILE = 'admin.key'
export const serverFileSchema = z.object({ url: z.url({ protocol: /^https?$/ }) })

/**
 * `--url` and `--api-key`, else HOLDFAST_URL and HOLDFAST_API_KEY, else the folder HOLDFAST_HOME, else `data` where the command
 * stands. The folder's key goes to the folder's own server only, never to another address.
 */
export async function findServer(io: Io, options: { url?: string; apiKey?: string }): Promise<ServerPlace> {
  const home = path.resolve(io.cwd, io.environment.HOLDFAST_HOME ?? 'data')
  const given = options.url ?? io.environment.HOLDFAST_URL
  const own = await ownServer(home)
  const url = given === undefined ? own : checked(given)
  if (url === null) {
    throw new HoldfastError('invalid_argument', `no control plane is known: ${home} has no ${SERVER_FILE}`, {
      hint: 'Give --url or HOLDFAST_URL, or run this in the folder where the server was started (HOLDFAST_HOME names its data folder).',
    })
  }
  const key =
    options.apiKey ?? io.environment.HOLDFAST_API_KEY ?? (url === own ? await readIfThere(path.join(home, ADMIN_KEY_FILE)) : null)
  if (key) return { url, apiKey: new Secret(key.trim()) }
  throw new HoldfastError('unauthenticated', `there is no API key for ${url}`, {
    hint: 'Give --api-key or HOLDFAST_API_KEY; an administrator makes one with "holdfast api-keys create".',
  })
}

function checked(url: string): string {
  const parsed = serverFileSchema.safeParse({ url })
  if (parsed.success) return parsed.data.url.replace(/\/+$/, '')
  throw new HoldfastError('invalid_argument', `${JSON.stringify(url)} is not an http or https address`, {
    hint: 'Write it as http://127.0.0.1:7440 or https://cp.example.com.',
  })
}

async function ownServer(home: string): Promise<string | null> {
  const file = path.join(home, SERVER_FILE)
  const text = await readIfThere(file)
  if (text === null) return null
  const parsed = readJson(text, serverFileSchema)
  if (parsed.success) return parsed.data.url.replace(/\/+$/, '')
  throw new HoldfastError('invalid_config', `${file} does not name a server`, {
    hint: 'Start the server again, which writes it, or give --url.',
    cause: parsed.error,
  })
}

async function readIfThere(file: string): Promise<string | null> {
  try {
    return await readFile(file, 'utf8')
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ENOTDIR') return null
    throw new HoldfastError('invalid_config', `${file} cannot be read (${code})`, {
      hint: 'Run this as the user who runs the server, or give --url and --api-key.',
      cause: error,
    })
  }
}
