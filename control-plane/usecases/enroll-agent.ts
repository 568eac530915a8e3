import { X509Certificate } from 'node:crypto'
import { requireRecipient } from '../../shared/age/age.ts'
import { HoldfastError } from '../../shared/errors.ts'
import { randomBase32 } from '../../shared/ids.ts'
import type { IssuedCertificate } from '../../shared/x509/authority.ts'
import { keyOfSigningRequest } from '../../shared/x509/authority.ts'
import { publicKeySha256 } from '../../shared/x509/read.ts'
import type { Db } from '../catalog/catalog.ts'
import { agentInUse, insertAgent, nameInUse, setAgentState } from '../catalog/identity-agents.ts'
import { insertCertificate, newestCertificate, revokeCertificates } from '../catalog/identity-certificates.ts'
import { lockToken, markTokenUsed, type TokenRow, tokenByHash } from '../catalog/identity-tokens.ts'
import { isSkewed, judgeToken } from '../domain/identity.ts'
import { SESSIONS_CHANNEL } from '../fleet/settings.ts'
import type { IdentityDeps } from './identity-deps.ts'
import { tokenHash } from './invite-agent.ts'

export interface EnrolmentRequest {
  readonly token: string
  readonly csrPem: string
  readonly ageRecipient: string
  readonly agentVersion: string
  readonly clock: Date
}

export interface Enrolment {
  readonly agentId: string
  readonly name: string
  readonly chainPem: string
  readonly generation: number
  readonly notAfter: Date
  /** For the audit trail. */
  readonly facts: Readonly<Record<string, unknown>>
}

/**
 * Trades a token for the first certificate of an agent. The same token with the same key within its time gives the same
 * certificate; every other second use throws `token_used`. `note` is told the name as soon as the token is known, for
 * the audit trail of a refusal.
 */
export async function enrollAgent(
  deps: IdentityDeps,
  request: EnrolmentRequest,
  note: (name: string) => void,
): Promise<Enrolment> {
  const publicKey = await keyOfSigningRequest(request.csrPem)
  if (!publicKey) {
    throw new HoldfastError('invalid_argument', 'the signing request is not a P-256 request signed by its own key', {
      hint: 'Update the agent and run `holdfast-agent configure` again.',
    })
  }
  const recipient = requireRecipient(request.ageRecipient)
  const token = await tokenByHash(deps.catalog.db, tokenHash(request.token))
  if (!token) throw unknownToken()
  note(token.name)
  const keyHash = publicKeySha256(publicKey)
  const agentId = `a${randomBase32(15)}`
  const lifetimeMs = deps.settings.certificateLifetimeMs
  // issued before the transaction, which does nothing but SQL; a certificate that is not in the ledger is worth nothing
  const issued = await deps.fleet.issueAgentCertificate({ publicKey, agentId, name: token.name, lifetimeMs })
  const result = await deps.catalog.transaction(async (tx) => {
    const locked = await lockToken(tx, token.id)
    if (!locked) throw unknownToken()
    const now = deps.clock.now()
    const judged = judgeToken(locked, keyHash, now)
    if (judged === 'repeat') return repeated(tx, locked, deps.fleet.authorityPem)
    if (judged !== 'fresh') throw refused(judged, locked)
    const agent = { id: agentId, name: locked.name, ageRecipient: recipient, version: request.agentVersion, now }
    return enrol(tx, { token: locked, agent, issued, keyHash })
  })
  if (result.replaced) await deps.catalog.notify(SESSIONS_CHANNEL, result.replaced)
  const offsetMs = request.clock.getTime() - deps.clock.now().getTime()
  if (isSkewed(offsetMs)) {
    deps.log.warn(
      { agent: result.name, offset_seconds: Math.round(offsetMs / 1000) },
      'suspected clock skew: the clock of the enrolling host differs',
    )
  }
  const { replaced, repeat, ...enrolment } = result
  const facts = { agent_id: result.agentId, replaced, repeat, clock_offset_seconds: Math.round(offsetMs / 1000) }
  return { ...enrolment, facts }
}

async function enrol(
  tx: Db,
  parts: {
    token: TokenRow
    agent: { id: string; name: string; ageRecipient: string; version: string; now: Date }
    issued: IssuedCertificate
    keyHash: Buffer
  },
) {
  const { token, agent, issued, keyHash } = parts
  const old = await agentInUse(tx, agent.name)
  if (old && !token.replace) throw nameInUse(agent.name)
  if (old) {
    await setAgentState(tx, old.id, 'replaced', `replaced by ${agent.id}`)
    await revokeCertificates(tx, old.id, { reason: 'replaced', now: agent.now })
  }
  await insertAgent(tx, agent)
  await insertCertificate(tx, {
    serial: issued.serial,
    agentId: agent.id,
    generation: 1,
    publicKeySha256: keyHash,
    pem: issued.pem,
    notBefore: issued.notBefore,
    notAfter: issued.notAfter,
  })
  await markTokenUsed(tx, token.id, {
    at: agent.now,
    publicKeySha256: keyHash,
    agentId: agent.id,
    certificateSerial: issued.serial,
  })
  return {
    agentId: agent.id,
    name: agent.name,
    chainPem: issued.chainPem,
    generation: 1,
    notAfter: issued.notAfter,
    replaced: old?.id ?? null,
    repeat: false,
  }
}

async function repeated(tx: Db, token: TokenRow, authorityPem: string) {
  const certificate = token.agentId ? await newestCertificate(tx, token.agentId) : null
  // renewed or revoked since: whoever asks again is not the agent that is waiting for its first reply
  if (!certificate || certificate.serial !== token.certificateSerial || certificate.revokedAt) throw refused('token_used', token)
  return {
    agentId: certificate.agentId,
    name: token.name,
    chainPem: `${new X509Certificate(certificate.pem).toString().trim()}\n${authorityPem}`,
    generation: certificate.generation,
    notAfter: certificate.notAfter,
    replaced: null,
    repeat: true,
  }
}

const unknownToken = () =>
  new HoldfastError('token_invalid', 'the enrolment token is not known here', {
    hint: 'Check that the whole token was pasted, or make another one with `holdfast agents invite`.',
  })

function refused(code: 'token_used' | 'token_expired', token: TokenRow): HoldfastError {
  return code === 'token_used'
    ? new HoldfastError(code, `the enrolment token for ${token.name} was used already`, {
        hint: 'If that was not you, revoke the agent. Make another token with `holdfast agents invite --replace`.',
      })
    : new HoldfastError(code, `the enrolment token for ${token.name} expired at ${token.expiresAt.toISOString()}`, {
        hint: 'Make another one with `holdfast agents invite`.',
      })
}
