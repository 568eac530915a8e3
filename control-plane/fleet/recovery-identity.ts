import { newAgeIdentity, recipientOf } from '../../shared/age/age.ts'
import { Secret } from '../../shared/secret.ts'

export interface RecoveryIdentity {
  readonly recipient: string
  /** The identity file: to be shown or written once and kept offline. */
  readonly file: Secret
}

/**
 * A new recovery identity as an age identity file. Its comment lines carry the fleet's verifying key, without which a
 * restore from the bucket alone could not tell a forged backup from a true one.
 */
export async function newRecoveryIdentity(fleet: { id: string; verifyingKeyText: string }, now: Date): Promise<RecoveryIdentity> {
  const identity = await newAgeIdentity()
  const recipient = await recipientOf(identity)
  return { recipient, file: recoveryFile({ identity, recipient, fleet, now }) }
}

/** The file's text for an identity that was made before its fleet was. */
export function recoveryFile(parts: {
  identity: Secret
  recipient: string
  fleet: { id: string; verifyingKeyText: string }
  now: Date
}): Secret {
  const lines = [
    '# Holdfast recovery identity. Keep it offline and away from the backups: it opens all of them.',
    `# created: ${parts.now.toISOString()}`,
    `# fleet: ${parts.fleet.id}`,
    `# verifying key: ${parts.fleet.verifyingKeyText}`,
    `# public key: ${parts.recipient}`,
    parts.identity.reveal(),
  ]
  return new Secret(`${lines.join('\n')}\n`)
}
