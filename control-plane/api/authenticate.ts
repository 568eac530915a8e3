import type { FastifyRequest } from 'fastify'
import { HoldfastError } from '../../shared/errors.ts'
import { Secret } from '../../shared/secret.ts'
import type { RouteAccess } from './access.ts'
import type { Caller } from './operations.ts'
import { ROLES, type Role } from './schemas/access.ts'

/** Where keys are looked up: by the hash of what was sent, so that the time taken says nothing about a key. */
export interface KeyRing {
  /** Null when there is no such key, or it has expired or was revoked. */
  find(key: Secret): Promise<Caller | null>
  /** The same key as it stands now. */
  current(keyId: string): Promise<Caller | null>
}

/** Crockford's base 32 has no i, l, o, u; 26 characters of it are 130 bits. */
const HEADER = /^ApiKey (hfk_[0-9a-hjkmnp-tv-z]{26,64})$/i

/** Finds the caller and checks the row. `scrape` is who may read the metrics. */
export async function authorize(request: FastifyRequest, row: RouteAccess, keys: KeyRing, scrape: 'anyone' | 'viewer') {
  const who = row.who === 'scraper' ? scrape : row.who
  if (who === 'anyone') return
  const caller = await identify(request.headers.authorization, keys)
  request.caller = caller
  requireRole(caller, who)
  if (row.reach === 'fleet' && caller.sources.length > 0) {
    throw new HoldfastError('forbidden', `the API key ${JSON.stringify(caller.keyName)} is limited to some sources`, {
      hint: 'Use a key that is for the whole fleet.',
    })
  }
}

export function requireRole(caller: Caller, role: Role): void {
  if (ROLES.indexOf(caller.role) >= ROLES.indexOf(role)) return
  throw new HoldfastError(
    'forbidden',
    `this needs the role ${role}; the API key ${JSON.stringify(caller.keyName)} is ${caller.role}`,
    {
      hint: 'Use a key with that role; an administrator makes one with "holdfast api-keys create".',
    },
  )
}

async function identify(header: string | undefined, keys: KeyRing): Promise<Caller> {
  if (header === undefined) {
    throw new HoldfastError('unauthenticated', 'no API key was sent', {
      hint: 'Send the header "Authorization: ApiKey hfk_...".',
    })
  }
  const key = HEADER.exec(header)?.[1]
  const caller = key === undefined ? null : await keys.find(new Secret(key.toLowerCase()))
  if (caller) return caller
  throw new HoldfastError('unauthenticated', 'the API key is not valid', {
    hint: 'It is unknown, has expired or was revoked; ask an administrator for a new one.',
  })
}
