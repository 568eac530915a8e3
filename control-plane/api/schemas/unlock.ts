import { z } from 'zod'
import { backupId, jobId, sourceName, time } from './common.ts'

/** A job that reads backups which the control plane cannot open, and what an operator with a recovery key does about it. */

const recipient = z.string().regex(/^age1[0-9a-z]{10,120}$/)
const attempt = z.number().int().min(1).max(999_999)
const base64 = z.string().regex(/^[A-Za-z0-9+/]+={0,2}$/)

export const jobUnlockView = z
  .object({
    recipient: recipient.describe("the job's public key; its secret half stays on the host"),
    fingerprint: z
      .string()
      .describe('of job, backup and key: the host shows it too (holdfast-agent jobs), and the two are compared'),
    asked_at: time,
    expires_at: time.describe('the job waits no longer'),
    unlocked_at: time.nullable(),
    unlocked_by: z.string().nullable(),
  })
  .meta({ id: 'JobUnlock' })

/** The key files of the backup and of all that it leans on, as they lie in the store: they open with a recovery key alone. */
export const lockedKeysView = z
  .object({
    job_id: jobId,
    backup_id: backupId,
    unlock: jobUnlockView,
    backups: z.array(
      z.object({
        id: backupId,
        source: sourceName,
        keys: z.array(z.object({ attempt, check: z.string().describe('tells the right key'), name: z.string() })),
        files: z.array(z.object({ name: z.string(), data: z.string().describe('base 64') })),
      }),
    ),
  })
  .meta({ id: 'LockedKeys' })
export type LockedKeysView = z.infer<typeof lockedKeysView>

/** One data key in an age file: under a kilobyte. */
const MAX_SEALED = 4096
/** A backup, the thousand that it may lean on at most, and a few attempts of each. */
const MAX_KEYS = 4000

export const unlockBody = z
  .strictObject({
    recipient: recipient.describe('that the keys are sealed to: the one that was compared'),
    keys: z
      .array(z.strictObject({ backup_id: backupId, attempt, file: base64.max(MAX_SEALED).describe('age file, base 64') }))
      .min(1)
      .max(MAX_KEYS),
  })
  .meta({ id: 'UnlockJob' })
export type UnlockJob = z.infer<typeof unlockBody>
