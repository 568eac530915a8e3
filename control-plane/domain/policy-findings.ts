import { type Policy, selectsSource } from './policy.ts'

/** What a person who makes policies has to know about them. Pure. */

export interface PolicyFinding {
  readonly code: string
  readonly severity: 'info' | 'warning'
  /** Name of the policy. */
  readonly subject: string
  readonly message: string
  readonly hint: string
}

interface Selectable {
  readonly host: string
  readonly name: string
  readonly engine: string
  readonly labels: Readonly<Record<string, string>>
}

/** What it means that nobody opens a source's backups without a recovery key: for `apply`, `diff` and `status`. */
export const SEALED_TO_RECOVERY =
  'sealed to the recovery recipients alone: backups are neither verified nor test-restored on a schedule, validation opens no block of them, ' +
  'and a restore or check by hand waits until an operator has unlocked it'

export function policyFindings(policies: Readonly<Record<string, Policy>>, sources: readonly Selectable[]): PolicyFinding[] {
  return Object.entries(policies).flatMap(([name, policy]): PolicyFinding[] => {
    if (policy.recipients !== 'recovery') return []
    return [
      {
        code: 'sealed_to_recovery',
        severity: 'warning',
        subject: name,
        message: `policy ${name}: ${SEALED_TO_RECOVERY}`,
        hint: 'Unlock with `holdfast unlock JOB --identity FILE`. Keep recovery keys in more than one place: without one these backups are lost.',
      },
      ...otherPolicies(name, policies, sources),
    ]
  })
}

/** Those that select a source of the policy too and do not say the same of it: the strictest holds. */
function otherPolicies(
  name: string,
  policies: Readonly<Record<string, Policy>>,
  sources: readonly Selectable[],
): PolicyFinding[] {
  const mine = sources.filter((source) => policies[name] && selectsSource(policies[name].select, source))
  return Object.entries(policies).flatMap(([other, policy]): PolicyFinding[] => {
    const shared = policy.recipients === 'recovery' ? [] : mine.filter((source) => selectsSource(policy.select, source))
    const [first] = shared
    if (!first) return []
    const more = shared.length > 1 ? ` and ${shared.length - 1} more` : ''
    return [
      {
        code: 'recipients_overruled',
        severity: 'info',
        subject: other,
        message: `policy ${other} selects ${first.host}/${first.name}${more} too: its backups of them are sealed as policy ${name} says`,
        hint: 'The strictest policy that selects a source decides. Say `recipients: recovery` in both, so that it can be read there.',
      },
    ]
  })
}
