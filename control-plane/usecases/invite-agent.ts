import { createHash, randomBytes } from 'node:crypto'
import type { Clock } from '../../shared/clock.ts'
import { HoldfastError } from '../../shared/errors.ts'
import { randomBase32, requireName } from '../../shared/ids.ts'
import { Secret } from '../../shared/secret.ts'
import type { Catalog } from '../catalog/catalog.ts'
import { agentInUse, nameInUse } from '../catalog/identity-agents.ts'
import { insertToken } from '../catalog/identity-tokens.ts'
import { MAX_TOKEN_SECONDS, TOKEN_SECONDS } from '../fleet/settings.ts'

export interface Invitation {
  readonly name: string
  /** Shown once: only its hash is kept. */
  readonly token: Secret
  readonly expiresAt: Date
}

export const tokenHash = (token: string): Buffer => createHash('sha256').update(token).digest()

/** A one-time token bound to a name. A name in use needs `replace`: the agent that has it loses its identity at the enrolment. */
export async function inviteAgent(
  deps: { catalog: Catalog; clock: Clock },
  request: { name: string; replace?: boolean; validSeconds?: number; createdBy: string },
): Promise<Invitation> {
  const name = requireName('agent name', request.name)
  const seconds = request.validSeconds ?? TOKEN_SECONDS
  if (!Number.isInteger(seconds) || seconds < 1 || seconds > MAX_TOKEN_SECONDS) {
    throw new HoldfastError('invalid_argument', `an invitation cannot be valid for ${seconds} seconds`, {
      hint: `Choose between 1 and ${MAX_TOKEN_SECONDS} seconds.`,
    })
  }
  const replace = request.replace ?? false
  if (!replace && (await agentInUse(deps.catalog.db, name))) throw nameInUse(name)
  const token = `hft_${randomBytes(32).toString('base64url')}`
  const now = deps.clock.now()
  const expiresAt = new Date(now.getTime() + seconds * 1000)
  await insertToken(deps.catalog.db, {
    id: `t${randomBase32(15)}`,
    tokenSha256: tokenHash(token),
    name,
    replace,
    createdBy: request.createdBy,
    createdAt: now,
    expiresAt,
  })
  return { name, token: new Secret(token), expiresAt }
}
