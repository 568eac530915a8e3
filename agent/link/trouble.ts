import type { Clock } from '../../shared/clock.ts'
import { type ErrorCode, HoldfastError, isHoldfastError } from '../../shared/errors.ts'
import { parseAddress } from './address.ts'
import { reportClock } from './clock-report.ts'
import type { AgentIdentity } from './identity.ts'
import { clockSkew, diagnose } from './probe.ts'

/** Answers that only a person can change: asked for again now and then, since they may have. */
const FOR_PEOPLE = new Set<ErrorCode>([
  'certificate_revoked',
  'certificate_superseded',
  'certificate_expired',
  'agent_suspended',
  'protocol_unsupported',
  'pin_mismatch',
  'clock_skew',
  'forbidden',
])

export const isForPeople = (error: HoldfastError): boolean => FOR_PEOPLE.has(error.code)

export interface Explanation {
  readonly trouble: HoldfastError
  /** The enrolment port may renew the certificate, or says why not. */
  readonly renewLate: boolean
}

/** gRPC says that a connection failed, and not why: the handshake is made once more, and looked at. */
export async function explain(error: HoldfastError, identity: AgentIdentity, clock: Clock): Promise<Explanation> {
  if (isHoldfastError(error, 'certificate_expired')) return { trouble: error, renewLate: true }
  if (!isHoldfastError(error, 'control_plane_unreachable')) return { trouble: error, renewLate: false }
  const { authorityPem, chainPem, privateKey, agentsAddress, enrolmentAddress } = identity
  const privateKeyPem = privateKey.export({ type: 'pkcs8', format: 'pem' }) as string
  const found = await diagnose(parseAddress(agentsAddress), { authorityPem, chainPem, privateKeyPem }, clock)
  const because = (trouble: HoldfastError) => ({ trouble, renewLate: found.kind === 'refused' })
  switch (found.kind) {
    case 'open':
      return because(error)
    case 'refused':
      return because(
        new HoldfastError('unauthenticated', "the control plane's listener does not accept this agent's certificate", {
          retry: true,
          cause: error,
        }),
      )
    case 'server-time': {
      const serverClock = await reportClock({ address: parseAddress(enrolmentAddress), authorityPem, chainPem, clock })
      return because(clockSkew(found.leaf, clock, serverClock ?? undefined))
    }
    case 'other-authority':
      return because(
        new HoldfastError(
          'pin_mismatch',
          `${agentsAddress} shows a certificate of another authority than this agent enrolled with`,
          {
            hint: 'Check the address; if the control plane was made anew, enrol the host again.',
            cause: error,
          },
        ),
      )
    case 'unreachable':
      return because(
        new HoldfastError('control_plane_unreachable', `${agentsAddress} cannot be reached: ${found.reason}`, { cause: error }),
      )
  }
}
