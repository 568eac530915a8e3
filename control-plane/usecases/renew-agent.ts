import { createHash, randomBytes, verify, X509Certificate } from 'node:crypto'
import { HoldfastError } from '../../shared/errors.ts'
import { lateRenewalBytes } from '../../shared/protocol.ts'
import { type IssuedCertificate, keyOfSigningRequest, serialOf } from '../../shared/x509/authority.ts'
import { isIssuedBy, publicKeySha256, readChain } from '../../shared/x509/read.ts'
import type { Db } from '../catalog/catalog.ts'
import { lockAgent, noteClockOffset, setAgentState, setGeneration } from '../catalog/identity-agents.ts'
import {
  certificateOfGeneration,
  insertCertificate,
  type PresentedCertificate,
  presentedCertificate,
} from '../catalog/identity-certificates.ts'
import { insertNonce, useNonce } from '../catalog/identity-tokens.ts'
import { isSkewed, judgeRenewal } from '../domain/identity.ts'
import { refuseState } from '../fleet/authenticate.ts'
import { SESSIONS_CHANNEL } from '../fleet/settings.ts'
import type { IdentityDeps } from './identity-deps.ts'

export interface Renewal {
  readonly chainPem: string
  readonly generation: number
  readonly notAfter: Date
}

const NONCE_MS = 60_000

/**
 * The next certificate for whoever proved to hold `presented`. A lost reply is repeated; an older generation with another key
 * suspends the agent, throws `agent_suspended` and is an alert.
 */
export async function renewAgent(deps: IdentityDeps, presented: PresentedCertificate, csrPem: string): Promise<Renewal> {
  const publicKey = await keyOfSigningRequest(csrPem)
  if (!publicKey) throw new HoldfastError('invalid_argument', 'the signing request is not a P-256 request signed by its own key')
  const requestedKey = publicKeySha256(publicKey)
  const issued = await deps.fleet.issueAgentCertificate({
    publicKey,
    agentId: presented.agentId,
    name: presented.agentName,
    lifetimeMs: deps.settings.certificateLifetimeMs,
  })
  const result = await deps.catalog.transaction((tx) => decide(tx, deps, presented, requestedKey, issued))
  if (result !== 'clone') return result
  await suspended(deps, presented)
  throw new HoldfastError('agent_suspended', `agent ${presented.agentName} is suspended: its identity is in use twice`, {
    hint: 'Find out whether the host was cloned or put back from a copy, then enrol it again with `holdfast agents invite --replace`.',
  })
}

async function decide(
  tx: Db,
  deps: IdentityDeps,
  presented: PresentedCertificate,
  requestedKey: Buffer,
  issued: IssuedCertificate,
): Promise<Renewal | 'clone'> {
  const agent = await lockAgent(tx, presented.agentId)
  const current = agent && (await certificateOfGeneration(tx, agent.id, agent.generation))
  if (!agent || !current) throw new HoldfastError('unauthenticated', `agent ${presented.agentName} has no certificate to renew`)
  refuseState({ ...presented, agentState: agent.state, agentStateReason: agent.stateReason })
  const judged = judgeRenewal({
    presented: presented.generation,
    current: agent.generation,
    currentKey: current.publicKeySha256,
    requestedKey,
  })
  if (judged === 'reuse') {
    throw new HoldfastError('invalid_argument', `agent ${agent.name} asked for a renewal with the key it has`, {
      hint: 'Update the agent: each renewal brings a new key.',
    })
  }
  if (judged === 'repeat') {
    return { chainPem: current.pem + deps.fleet.authorityPem, generation: current.generation, notAfter: current.notAfter }
  }
  if (judged === 'clone') {
    await setAgentState(tx, agent.id, 'suspended', `generation ${presented.generation} was renewed again with another key`)
    return 'clone'
  }
  const generation = agent.generation + 1
  await insertCertificate(tx, {
    serial: issued.serial,
    agentId: agent.id,
    generation,
    publicKeySha256: requestedKey,
    pem: issued.pem,
    notBefore: issued.notBefore,
    notAfter: issued.notAfter,
  })
  await setGeneration(tx, agent.id, generation)
  return { chainPem: issued.chainPem, generation, notAfter: issued.notAfter }
}

async function suspended(deps: IdentityDeps, presented: PresentedCertificate): Promise<void> {
  await deps.catalog.notify(SESSIONS_CHANNEL, presented.agentId)
  const detail = { presented_generation: presented.generation, current_generation: presented.currentGeneration }
  deps.log.error(
    { alert: 'agent_suspended', agent: presented.agentName, ...detail },
    'an older generation of an identity asked for a renewal: the host was cloned or its identity stolen; the agent is suspended',
  )
  await deps.audit({
    actor: 'control-plane',
    action: 'agent.suspend',
    subject: presented.agentName,
    outcome: 'done',
    detail: { ...detail, reason: 'older generation with another key' },
  })
}

export interface Challenge {
  readonly nonce: Buffer
}

/**
 * A nonce for a late renewal, valid once for one minute. Also where an agent names its clock when it cannot accept the
 * server's certificate because of its times.
 */
export async function challengeAgent(deps: IdentityDeps, request: { chainPem: string; clock: Date }): Promise<Challenge> {
  const offsetMs = request.clock.getTime() - deps.clock.now().getTime()
  const offset_seconds = Math.round(offsetMs / 1000)
  if (request.chainPem === '') {
    // a host that is not enrolled yet: it is told the time, and nothing else
    if (isSkewed(offsetMs)) deps.log.warn({ offset_seconds }, 'suspected clock skew: the clock of a host that enrols differs')
    return { nonce: Buffer.alloc(0) }
  }
  const presented = await presentedByChain(deps, request.chainPem)
  if (isSkewed(offsetMs)) {
    await noteClockOffset(deps.catalog.db, presented.agentId, Math.round(offsetMs))
    deps.log.warn({ agent: presented.agentName, offset_seconds }, 'suspected clock skew: the clock of an agent differs')
  }
  const nonce = randomBytes(32)
  const now = deps.clock.now()
  await deps.catalog.transaction((tx) =>
    insertNonce(tx, {
      nonceSha256: sha256(nonce),
      certificateSerial: presented.serial,
      expiresAt: new Date(now.getTime() + NONCE_MS),
      now,
    }),
  )
  return { nonce }
}

/** An outage must not expel the fleet: an expired, unrevoked certificate renews by signing the nonce with its key. */
export async function renewAgentLate(
  deps: IdentityDeps,
  request: { chainPem: string; nonce: Buffer; signature: Buffer; csrPem: string },
  note: (name: string) => void,
): Promise<Renewal & { name: string; lateSeconds: number }> {
  const presented = await presentedByChain(deps, request.chainPem)
  note(presented.agentName)
  const now = deps.clock.now()
  const lateMs = now.getTime() - presented.notAfter.getTime()
  if (lateMs > deps.settings.lateRenewalMs) {
    throw new HoldfastError('certificate_expired', `the certificate of ${presented.agentName} ended ${days(lateMs)} days ago`, {
      hint: 'That is too long ago for a renewal: enrol the host again with `holdfast agents invite --replace`.',
    })
  }
  const key = new X509Certificate(presented.pem).publicKey
  const proven = verify('sha256', lateRenewalBytes(request.nonce), key, request.signature)
  // the nonce is spent whether or not the signature holds: one try each
  const known = await useNonce(deps.catalog.db, { sha256: sha256(request.nonce), certificateSerial: presented.serial, now })
  if (!known || !proven) {
    throw new HoldfastError('unauthenticated', `${presented.agentName} did not prove that it holds the key of its certificate`, {
      hint: 'Try again; if it stays, enrol the host again with `holdfast agents invite --replace`.',
    })
  }
  const renewal = await renewAgent(deps, presented, request.csrPem)
  return { ...renewal, name: presented.agentName, lateSeconds: Math.max(0, Math.round(lateMs / 1000)) }
}

/** A chain shown outside TLS: signed by this authority and in the ledger, of an agent that may have one. Its time is not judged. */
async function presentedByChain(deps: IdentityDeps, chainPem: string): Promise<PresentedCertificate> {
  const leaf = readChain(chainPem)?.[0]
  const authority = new X509Certificate(deps.fleet.authorityPem)
  const presented = leaf && isIssuedBy(leaf, authority) ? await presentedCertificate(deps.catalog.db, serialOf(leaf)) : null
  if (!presented || !leaf || !new X509Certificate(presented.pem).raw.equals(leaf.raw)) {
    throw new HoldfastError('unauthenticated', 'the certificate was not issued by this control plane', {
      hint: 'Enrol the host with `holdfast agents invite`.',
    })
  }
  refuseState(presented)
  return presented
}

const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest()
const days = (ms: number) => Math.floor(ms / 86_400_000)
