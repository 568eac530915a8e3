import { sign } from 'node:crypto'
import type { Clock } from '../../shared/clock.ts'
import { HoldfastError } from '../../shared/errors.ts'
import type { Certificate } from '../../shared/generated/holdfast/agent/v1/enrolment.ts'
import type { Logger } from '../../shared/log.ts'
import { lateRenewalBytes } from '../../shared/protocol.ts'
import { parseAddress } from './address.ts'
import { type Clients, clientsOn, enrolmentChannel } from './channel.ts'
import { warnOfSkew } from './clock-report.ts'
import { type AgentIdentity, certified, type PendingKey, pendingKey, renewalPurpose, storeIdentity } from './identity.ts'

export interface Renewed {
  readonly identity: AgentIdentity
  /** From now, by the monotonic clock. */
  readonly renewAfterMs: number
}

/** The next generation, asked for with the certificate in use. May be repeated after a lost reply, or when `signal` ended it. */
export async function renew(identity: AgentIdentity, home: string, clients: Clients, signal?: AbortSignal): Promise<Renewed> {
  const key = await pendingKey(home, renewalPurpose(identity))
  const csrPem = await signingRequest(key)
  const answer = await clients.identity.renew({ csrPem, generation: identity.generation }, { signal })
  return store(identity, home, key, answer.certificate)
}

/** After an outage: the enrolment listener renews a certificate that has ended, for whoever proves its key. */
export async function renewLate(identity: AgentIdentity, home: string, clock: Clock, log: Logger): Promise<Renewed> {
  const channel = enrolmentChannel(parseAddress(identity.enrolmentAddress), identity.authorityPem)
  try {
    const { enrolment } = clientsOn(channel, clock)
    const { chainPem } = identity
    const clockSeconds = BigInt(Math.floor(clock.now().getTime() / 1000))
    const challenge = await enrolment.challenge({ chainPem, clockSeconds })
    warnOfSkew(challenge.clockSeconds, clock, log)
    const nonce = Buffer.from(challenge.nonce)
    const key = await pendingKey(home, renewalPurpose(identity))
    const answer = await enrolment.renewLate({
      chainPem,
      nonce,
      signature: sign('sha256', lateRenewalBytes(nonce), identity.privateKey),
      csrPem: await signingRequest(key),
    })
    return await store(identity, home, key, answer.certificate)
  } finally {
    channel.close()
  }
}

/** What makes one is 8 MB, and a renewal comes after hours. */
async function signingRequest({ privateKey, publicKey }: PendingKey): Promise<string> {
  const { newSigningRequest } = await import('../../shared/x509/authority.ts')
  return newSigningRequest(privateKey, publicKey)
}

async function store(
  identity: AgentIdentity,
  home: string,
  key: PendingKey,
  certificate: Certificate | undefined,
): Promise<Renewed> {
  if (!certificate) throw new HoldfastError('unauthenticated', 'the control plane answered without a certificate')
  const renewed: AgentIdentity = {
    ...identity,
    ...certified(certificate.chainPem, identity.authorityPem, key.privateKey),
    generation: certificate.generation,
    privateKey: key.privateKey,
  }
  await storeIdentity(home, renewed)
  return { identity: renewed, renewAfterMs: certificate.renewAfterSeconds * 1000 }
}

/**
 * When a certificate that was read from disk has to be renewed, in milliseconds from now. The wall clock is all there is after
 * a start; when it makes no sense the answer is 0: a renewal too many costs nothing, one too few costs the stream.
 */
export function renewalDueMs(identity: AgentIdentity, clock: Clock): number {
  const now = clock.now().getTime()
  const from = identity.notBefore.getTime()
  const to = identity.notAfter.getTime()
  const due = from + ((to - from) * 2) / 3
  return now < from || now >= due ? 0 : due - now
}
