import { HoldfastError } from '../../shared/errors.ts'

/** Whom backups are sealed to. Pure. Why it is as it is: docs/decisions/0008. */

/** A policy's `recipients`. `recovery`: the recovery recipients alone, so that nobody opens a backup without a recovery key, the fleet neither. */
export const RECIPIENT_CHOICES = ['all', 'recovery'] as const
export type RecipientChoice = (typeof RECIPIENT_CHOICES)[number]

export interface FleetRecipients {
  /** The fleet's own identity's, guarded by the key service. */
  readonly fleet: string
  readonly recovery: readonly string[]
}

export interface Sealing {
  readonly recipients: readonly string[]
  /** Who may open neither the backup nor anything that it leans on. */
  readonly withheldFrom: readonly string[]
}

/** The strictest of the policies that select a source: a second policy, or a backup by hand, is no way round the first. */
export function strictestChoice(choices: readonly RecipientChoice[]): RecipientChoice {
  return choices.includes('recovery') ? 'recovery' : 'all'
}

export function sealingOf(choice: RecipientChoice, { fleet, recovery }: FleetRecipients): Sealing {
  if (choice === 'all') return { recipients: [fleet, ...recovery], withheldFrom: [] }
  requireRecovery(recovery)
  return { recipients: [...recovery], withheldFrom: [fleet] }
}

/** Sealed to nobody, a backup could never be opened again. */
export function requireRecovery(recovery: readonly string[]): void {
  if (recovery.length > 0) return
  throw new HoldfastError('invalid_config', 'backups cannot be sealed to the recovery recipients alone: there are none', {
    hint: 'Make a recovery key with `holdfast keys new-recovery` first, and keep it where it cannot be lost.',
  })
}

/** The fleet is not among those that a backup is sealed to. Nobody at all: nothing was sealed yet. */
export function isWithheld(recipients: readonly string[] | null, fleet: string): boolean {
  return recipients !== null && recipients.length > 0 && !recipients.includes(fleet)
}
