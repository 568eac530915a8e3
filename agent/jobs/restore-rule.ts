import { HoldfastError } from '../../shared/errors.ts'
import type { RestoreWork } from '../../shared/generated/holdfast/agent/v1/jobs.ts'
import { requireRef } from './backup.ts'
import type { JobStart } from './messages.ts'

/**
 * The host's own rule, which the control plane cannot change: backups of this host, of hosts with the same `restore-group` label set by
 * its administrator, and of hosts named in restores_from.
 */
export function requireAllowed(
  { name, labels, restoresFrom }: Pick<JobStart['agent'], 'name' | 'labels' | 'restoresFrom'>,
  work: Pick<RestoreWork, 'backup' | 'originLabels'>,
): void {
  const origin = requireRef(work.backup).host
  if (origin === name || restoresFrom.includes('*') || restoresFrom.includes(origin)) return
  const group = labels['restore-group']
  if (group !== undefined && work.originLabels['restore-group'] === group) return
  throw new HoldfastError('restore_not_allowed', `${name} does not accept restores of backups of ${origin}`, {
    hint: `On ${name}, add ${origin} to restores_from in agent.yaml, or give both hosts the same restore-group label.`,
  })
}
