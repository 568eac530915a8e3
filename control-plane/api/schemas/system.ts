import { z } from 'zod'
import { RECIPIENT_CHOICES } from '../../domain/recipients.ts'
import { backupId, findingView, name, sourceName, time } from './common.ts'

export const systemTestView = z
  .object({ ok: z.boolean().describe('no finding is an error'), findings: z.array(findingView) })
  .meta({ id: 'SystemTest' })
export type SystemTestView = z.infer<typeof systemTestView>

/** Three copies (the original counted), on two kinds of storage, one of them elsewhere. */
export const threeTwoOneView = z.object({
  copies: z.number().int(),
  kinds: z.number().int(),
  elsewhere: z.number().int(),
  met: z.boolean(),
})

export const sourceStatusView = z.object({
  source: sourceName,
  engine: z.string(),
  connected: z.boolean(),
  policies: z.array(name),
  protected: z.boolean().describe('a good backup no older than 48 hours'),
  last_good_at: time.nullable(),
  last_good_id: backupId.nullable(),
  age_seconds: z.number().nullable(),
  verified_at: time.nullable().describe('by another host than the one that made the backup'),
  test_restored_at: time.nullable().describe('the same'),
  own_verified_at: time.nullable().describe('by the host that made the backup, which does not count'),
  own_test_restored_at: time.nullable().describe('the same'),
  recipients: z
    .enum(RECIPIENT_CHOICES)
    .describe('whom its backups are sealed to; recovery: nobody opens them without a recovery key'),
  last_failure: z.object({ job_id: z.string(), at: time, code: z.string(), message: z.string() }).nullable(),
  three_two_one: threeTwoOneView,
})

export const statusView = z
  .object({
    version: z.string(),
    fleet_id: z.string().nullable(),
    at: time,
    agents: z.object({ total: z.number().int(), connected: z.number().int() }),
    jobs: z.object({ queued: z.number().int(), running: z.number().int() }),
    sources: z.array(sourceStatusView),
  })
  .meta({ id: 'Status' })
export type StatusView = z.infer<typeof statusView>

export const fleetKeysView = z
  .object({
    fleet_id: z.string(),
    verifying_key: z.string().describe('what recovery checks manifests with, as people copy it'),
    fleet_recipient: z.string(),
    recovery_recipients: z.array(z.string()),
  })
  .meta({ id: 'FleetKeys' })
export type FleetKeysView = z.infer<typeof fleetKeysView>

/** The identity is made where it is kept, by the command line; the control plane learns its recipient only. */
export const addRecoveryBody = z
  .strictObject({ recipient: z.string().regex(/^age1[0-9a-z]{10,120}$/) })
  .meta({ id: 'AddRecoveryRecipient' })
export type AddRecovery = z.infer<typeof addRecoveryBody>
