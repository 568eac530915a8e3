import { newAgeIdentity, recipientOf } from '../../shared/age/age.ts'
import type { Clock } from '../../shared/clock.ts'
import { HoldfastError, isHoldfastError } from '../../shared/errors.ts'
import type { Logger } from '../../shared/log.ts'
import type { Secret } from '../../shared/secret.ts'
import { newSigningRequest } from '../../shared/x509/authority.ts'
import { normalizePin } from '../../shared/x509/read.ts'
import { type Address, addressText, enrolmentAddressOf, parseAddress } from './address.ts'
import { clientsOn, enrolmentChannel } from './channel.ts'
import { reportClock, warnOfSkew } from './clock-report.ts'
import { type AgentIdentity, certified, enrolmentPurpose, pendingKey, readIdentity, storeIdentity } from './identity.ts'
import { authorityByPin } from './probe.ts'

export interface EnrollOptions {
  /** host:port of the agents' listener; enrolment is on the next port unless `enrolmentServer` says otherwise. */
  readonly server: string
  readonly enrolmentServer?: string
  readonly token: Secret
  /** `sha256:` of the fleet's authority, as the invitation shows it. */
  readonly pin: string
  /** Folder of the agent's state; exists. */
  readonly home: string
  readonly agentVersion: string
  readonly clock: Clock
  readonly log: Logger
  /** Gives up an identity that this home has. */
  readonly replace?: boolean
}

/**
 * Makes a key, checks the pin, and only then sends the token. After a lost reply the same command may be repeated: the key
 * is kept until its certificate is. Throws `pin_mismatch`, `token_*`, `clock_skew`, `already_exists`, `control_plane_unreachable`.
 */
export async function enroll(options: EnrollOptions): Promise<AgentIdentity> {
  const { home, token, clock, log } = options
  const pin = normalizePin(options.pin)
  if (!pin) {
    throw new HoldfastError('invalid_argument', 'the pin is not of the form sha256: and 64 hexadecimal digits', {
      hint: 'Copy the whole pin from the invitation.',
    })
  }
  const server = parseAddress(options.server)
  const enrolment = options.enrolmentServer ? parseAddress(options.enrolmentServer) : enrolmentAddressOf(server)
  const old = await readIdentity(home)
  if (old && !options.replace) {
    throw new HoldfastError('already_exists', `this home is enrolled as ${old.name}`, {
      hint: 'Use another --home, or add --replace to give that identity up.',
    })
  }
  const authorityPem = await checkedAuthority(enrolment, pin, clock)
  const key = await pendingKey(home, enrolmentPurpose(token), newAgeIdentity)
  if (!key.ageIdentity) throw new HoldfastError('internal', 'the pending enrolment has no age identity')
  const channel = enrolmentChannel(enrolment, authorityPem)
  try {
    const ageRecipient = await recipientOf(key.ageIdentity)
    const answer = await clientsOn(channel, clock).enrolment.enroll({
      token: token.reveal(),
      csrPem: await newSigningRequest(key.privateKey, key.publicKey),
      ageRecipient,
      agentVersion: options.agentVersion,
      clockSeconds: BigInt(Math.floor(clock.now().getTime() / 1000)),
    })
    warnOfSkew(answer.clockSeconds, clock, log)
    const certificate = answer.certificate
    if (!certificate) throw new HoldfastError('unauthenticated', 'the control plane answered without a certificate')
    const identity: AgentIdentity = {
      // the authority that was pinned, not the one the answer names
      ...certified(certificate.chainPem, authorityPem, key.privateKey),
      agentId: answer.agentId,
      name: answer.name,
      fleetId: answer.fleetId,
      verifyingKey: answer.verifyingKey,
      generation: certificate.generation,
      privateKey: key.privateKey,
      ageIdentity: key.ageIdentity,
      ageRecipient,
      agentsAddress: addressText(answer.agentsAddress === '' ? server : parseAddress(answer.agentsAddress)),
      enrolmentAddress: addressText(enrolment),
    }
    await storeIdentity(home, identity)
    return identity
  } finally {
    channel.close()
  }
}

async function checkedAuthority(enrolment: Address, pin: string, clock: Clock): Promise<string> {
  try {
    return await authorityByPin(enrolment, pin, clock)
  } catch (error) {
    if (!isHoldfastError(error, 'clock_skew')) throw error
    const serverClock = await reportClock({ address: enrolment, authorityPem: '', chainPem: '', clock })
    if (!serverClock) throw error
    throw new HoldfastError('clock_skew', `${error.message}; the control plane's clock says ${serverClock.toISOString()}`, {
      hint: error.hint,
      cause: error,
    })
  }
}
