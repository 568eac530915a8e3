import { type BackupWork, FullReason } from '../../shared/generated/holdfast/agent/v1/jobs.ts'
import type { JobContext } from './context.ts'

const FULL_REASONS: Readonly<Record<number, string>> = {
  [FullReason.NO_GOOD_BACKUP]: 'the source has no good backup yet',
  [FullReason.NO_FULL_BACKUP]: 'the source has no full backup that a differential could lean on',
  [FullReason.BASE_ON_OTHER_TARGET]: 'the last backups lie on another target',
  [FullReason.BASE_DAMAGED]: 'the last backup, or one that it leans on, is damaged or gone',
  [FullReason.BASE_RECIPIENTS_DIFFER]:
    'the last backups are sealed to other recipients than this one: recipients were added, or a policy says otherwise now',
}

/** A full is many times what was asked for: whoever waits for it, or pays for it, is told why. */
export function toldReason(job: Pick<JobContext, 'finding'>, work: Pick<BackupWork, 'fullReason'>): string | undefined {
  const why = FULL_REASONS[work.fullReason]
  if (!why) return undefined
  const message = `a full is made: ${why}`
  job.finding({
    code: 'full_instead',
    severity: work.fullReason === FullReason.NO_GOOD_BACKUP ? 'info' : 'warning',
    message,
    hint: 'The next incremental leans on this full.',
  })
  return message
}
