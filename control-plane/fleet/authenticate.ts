import { X509Certificate } from 'node:crypto'
import type { Clock } from '../../shared/clock.ts'
import { HoldfastError } from '../../shared/errors.ts'
import { serialOf } from '../../shared/x509/authority.ts'
import { publicKeySha256 } from '../../shared/x509/read.ts'
import type { Catalog } from '../catalog/catalog.ts'
import { type PresentedCertificate, presentedCertificate } from '../catalog/identity-certificates.ts'

/** The agent behind a call. Its certificate was verified by TLS; that it still counts was asked of the catalog. */
export interface AgentPeer {
  readonly agentId: string
  readonly name: string
  readonly ageRecipient: string
  readonly serial: string
  readonly generation: number
  readonly certificate: PresentedCertificate
}

/** Reason in the ledger of a certificate whose successor was used. */
export const SUPERSEDED = 'superseded'

/**
 * Checks what TLS cannot know: that the certificate is in the ledger, unrevoked, not over by this clock (a resumed TLS
 * session is not checked again), and that its agent is active. With `allowSuperseded` an older generation passes: only
 * for the renewal, which suspends it.
 */
export async function authenticate(
  deps: { catalog: Catalog; clock: Clock },
  der: Uint8Array | undefined,
  options: { allowSuperseded: boolean },
): Promise<AgentPeer> {
  if (!der) throw new HoldfastError('unauthenticated', 'the call came without a client certificate')
  const certificate = new X509Certificate(der)
  const presented = await presentedCertificate(deps.catalog.db, serialOf(certificate))
  if (!presented?.publicKeySha256.equals(publicKeySha256(certificate.publicKey))) {
    throw new HoldfastError('unauthenticated', 'the certificate is not in the ledger of this control plane', {
      hint: 'Enrol the host again with `holdfast agents invite`.',
    })
  }
  refuseState(presented, options)
  if (deps.clock.now() > presented.notAfter) {
    throw new HoldfastError('certificate_expired', `the certificate of ${presented.agentName} has ended`, {
      hint: 'The agent renews it by itself at the enrolment port; check that it can reach it.',
      context: { agent: presented.agentName },
    })
  }
  return {
    agentId: presented.agentId,
    name: presented.agentName,
    ageRecipient: presented.agentRecipient,
    serial: presented.serial,
    generation: presented.generation,
    certificate: presented,
  }
}

type StateFacts = Pick<
  PresentedCertificate,
  'agentName' | 'agentState' | 'agentStateReason' | 'revokedAt' | 'revokedReason' | 'generation'
>

/** Throws for an agent that is suspended, revoked or replaced, and for a certificate that no longer counts. */
export function refuseState(facts: StateFacts, options: { allowSuperseded: boolean } = { allowSuperseded: true }): void {
  const { agentName, agentState, agentStateReason, revokedAt, revokedReason, generation } = facts
  const context = { agent: agentName }
  if (agentState === 'suspended') {
    throw new HoldfastError('agent_suspended', `agent ${agentName} is suspended: ${agentStateReason ?? 'by an operator'}`, {
      hint: 'Find out whether the host was cloned, then enrol it again with `holdfast agents invite --replace`.',
      context,
    })
  }
  const superseded = revokedReason === SUPERSEDED
  if (agentState !== 'active' || (revokedAt && !superseded)) {
    throw new HoldfastError(
      'certificate_revoked',
      `the certificate of ${agentName} was revoked: ${agentStateReason ?? revokedReason}`,
      {
        hint: 'If this host shall be backed up again, invite it with `holdfast agents invite`.',
        context,
      },
    )
  }
  if (superseded && !options.allowSuperseded) {
    throw new HoldfastError(
      'certificate_superseded',
      `generation ${generation} of the identity of ${agentName} is no longer in use`,
      {
        hint: 'This home folder is an old copy. Enrol the host again with `holdfast agents invite --replace`.',
        context,
      },
    )
  }
}
