import { z } from 'zod'
import {
  backupId,
  bytes,
  findingView,
  idPart,
  jobId,
  line,
  name,
  page,
  pageQuery,
  part,
  restoreTarget,
  sourceName,
  time,
} from './common.ts'
import { jobPage, jobView } from './jobs.ts'

export const backupType = z.enum(['full', 'incremental', 'differential'])
export const backupStatus = z.enum(['running', 'good', 'failed', 'expired'])

export const backupView = z
  .object({
    id: backupId,
    source: sourceName,
    engine: z.string(),
    type: backupType,
    status: backupStatus,
    created_at: time,
    finished_at: time.nullable(),
    description: z.string().nullable(),
    size_bytes: bytes.nullable().describe('read from the source'),
    stored_bytes: bytes.nullable().describe('of its own objects at one target'),
    total_count: bytes.nullable().describe('rows, files, documents ... counted when it was made'),
    leans_on: z.array(backupId),
    valid: z.boolean().nullable(),
    validated_at: time.nullable(),
    verified_at: time.nullable(),
    verified_by: z.string().nullable(),
    test_restored_at: time.nullable(),
    test_restored_by: z.string().nullable(),
    pinned_at: time.nullable(),
    needs_unlock: z
      .boolean()
      .describe('sealed to the recovery recipients alone: a job that reads it waits until an operator has unlocked it'),
    parts: z.array(z.string()),
    target: name,
    job_id: jobId.nullable(),
    copies: z.array(
      z.object({
        target: name,
        state: z.enum(['writing', 'good', 'damaged', 'removing', 'removed']),
        good_at: time.nullable(),
        checked_at: time.nullable(),
      }),
    ),
  })
  .meta({ id: 'Backup' })
export type BackupView = z.infer<typeof backupView>
export const backupPage = page(backupView).meta({ id: 'BackupPage' })

export const startBackupBody = z
  .strictObject({
    type: backupType.default('full'),
    sources: z
      .array(sourceName)
      .min(1)
      .max(1000)
      .refine((names) => new Set(names).size === names.length, 'a source is named twice')
      .optional()
      .describe('left out: the only source there is'),
    all: z.boolean().default(false).describe('every source that the key may use'),
    description: line(500).optional(),
    dataset_ids: z.array(part).max(1000).default([]).describe('parts of the one source'),
    tenant_id: line(200).optional(),
    dry_run: z.boolean().default(false),
  })
  .refine((body) => !(body.all && body.sources), { message: 'name sources or say all, not both', path: ['all'] })
  .refine((body) => body.dataset_ids.length === 0 || (!body.all && (body.sources?.length ?? 1) === 1), {
    message: 'parts can be named for one source only',
    path: ['dataset_ids'],
  })
  .meta({ id: 'StartBackup' })
export type StartBackup = z.infer<typeof startBackupBody>

/** One source asked for: its job. Several or all: a list, a job a source. */
export const startedBackups = z.union([jobView, jobPage])

export const backupQuery = z.strictObject({
  ...pageQuery,
  source: sourceName.optional().describe('host/name; one that is not known has none'),
  type: backupType.optional(),
  status: backupStatus.optional(),
  id: idPart.optional(),
})
export type BackupFilter = Pick<z.infer<typeof backupQuery>, 'source' | 'type' | 'status' | 'id'>

export const backupParams = z.strictObject({ id: backupId })

export const startRestoreBody = z
  .strictObject({
    target: restoreTarget.optional(),
    via: sourceName.optional().describe('source of the target host whose engine and connection are used for a new name'),
    dataset_ids: z.array(part).max(1000).default([]),
    dataset_mapping: z.record(part, part).default({}).describe('old name: new name'),
    target_tenant: line(200).optional(),
    overwrite_existing: z.boolean().default(false),
    verify_integrity: z.boolean().default(true),
    dry_run: z.boolean().default(false),
  })
  .refine((body) => Object.keys(body.dataset_mapping).length <= 1000, { message: 'too many names', path: ['dataset_mapping'] })
  .meta({ id: 'StartRestore' })
export type StartRestore = z.infer<typeof startRestoreBody>

export const startVerifyBody = z
  .strictObject({
    on: name.optional().describe('the host that does it; left out: one that may and is connected'),
    older_than_seconds: z
      .int()
      .min(0)
      .max(100 * 366 * 86_400)
      .default(0)
      .describe('only packs that were not verified for so long; 0: all'),
    share_percent: z.number().min(0.1).max(100).default(100).describe('of the bytes of packs, the least recently verified first'),
    dry_run: z.boolean().default(false).describe('only say what would be read'),
  })
  .meta({ id: 'StartVerify' })
export type StartVerify = z.infer<typeof startVerifyBody>
export const startTestRestoreBody = z
  .strictObject({ via: sourceName.optional().describe('source beside which the throw-away place is made') })
  .meta({ id: 'StartTestRestore' })
export type StartTestRestore = z.infer<typeof startTestRestoreBody>

export const validationView = z
  .object({
    valid: z.boolean(),
    errors: z.array(z.string()).describe('codes of what is wrong'),
    details: z.array(z.object({ code: z.string(), object: z.string().optional(), message: z.string() })),
    not_checked: z.array(z.string()).describe('what could not be looked at, and why'),
  })
  .meta({ id: 'Validation' })
export type ValidationView = z.infer<typeof validationView>

export const cleanupBody = z.strictObject({ dry_run: z.boolean().default(false) }).meta({ id: 'StartCleanup' })
export const cleanupView = z
  .object({
    dry_run: z.boolean(),
    remove: z.array(z.object({ id: backupId, source: sourceName, created_at: time, stored_bytes: bytes, reason: z.string() })),
    keep: z.number().int().nonnegative(),
    freed_bytes: bytes,
    /** Why nothing is removed of a source although its policy would. */
    held: z.array(z.object({ source: sourceName, reason: z.string() })),
    findings: z.array(findingView),
  })
  .meta({ id: 'Cleanup' })
export type CleanupView = z.infer<typeof cleanupView>
