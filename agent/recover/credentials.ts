import { parseIdentityFile } from '../../shared/age/age.ts'
import { HoldfastError } from '../../shared/errors.ts'
import { verifyingKeyOfIdentityFile } from '../../shared/manifest/verifying-key.ts'
import type { Secret } from '../../shared/secret.ts'

/** What a person brings to a recovery: the identity file that was kept offline. */
export interface RecoveryCredentials {
  /** age identities; none: backups can be listed and their origin checked, but not opened. */
  readonly identities: readonly Secret[]
  /** `hfv1...`; undefined: "origin not verified". */
  readonly verifyingKey: string | undefined
}

/** `text` is an age identity file whose comment lines carry the fleet's verifying key; `verifyingKey` goes before those. */
export function recoveryCredentials(text: string, verifyingKey?: string): RecoveryCredentials {
  const identities = parseIdentityFile(text)
  if (identities.length === 0) {
    throw new HoldfastError('invalid_argument', 'the identity file holds no age identity', {
      hint: 'Give the file that `holdfast keys new-recovery` printed: one of its lines begins with AGE-SECRET-KEY-1.',
    })
  }
  return { identities, verifyingKey: verifyingKey ?? verifyingKeyOfIdentityFile(text) }
}
