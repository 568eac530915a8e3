import { z } from 'zod'
import { NAME } from './ids.ts'
import { mapOf } from './json.ts'

/** Shapes of `JobResult.detail_json`: what an agent answers besides success or failure. Sizes in bytes. */

export const findingSchema = z.object({
  code: z.string().max(100),
  severity: z.enum(['info', 'warning', 'error']),
  message: z.string().max(4000),
  hint: z.string().max(4000).optional(),
})
export type Finding = z.infer<typeof findingSchema>

/** Counts and fingerprints taken while the backup was made. Keys are parts as `show` names them. */
export const fingerprintSchema = z.object({
  /** Rows, files, documents ... by part. Exact. */
  counts: mapOf(z.number().int().nonnegative()),
  /** Versions, LSN, encoding ...: printable facts. */
  facts: mapOf(z.string()),
})
export type Fingerprint = z.infer<typeof fingerprintSchema>

export const totalCount = ({ counts }: Fingerprint): number => Object.values(counts).reduce((sum, count) => sum + count, 0)

export const backupDetailSchema = z.object({
  dry_run: z.boolean(),
  /** What was really made: an incremental may have become a full. */
  type: z.enum(['full', 'incremental', 'differential']),
  /** Why it became something else than asked, if it did. */
  reason: z.string().optional(),
  read_bytes: z.number(),
  stored_bytes: z.number(),
  skipped_bytes: z.number(),
  resent_bytes: z.number(),
  chunks: z.number(),
  chunks_skipped: z.number(),
  objects: z.number(),
  /** Sum of the fingerprint's counts; like `read_bytes` exact here, and rounded in the manifest, which lies in the clear. */
  total_count: z.number().int().nonnegative().optional(),
})
export type BackupDetail = z.infer<typeof backupDetailSchema>

export const restorePreviewSchema = z.object({
  /** Things that will be made. */
  creates: z.array(z.string()),
  /** Things that exist and will be replaced: what is lost. */
  replaces: z.array(z.object({ what: z.string(), size_bytes: z.number().optional(), note: z.string().optional() })),
  bytes: z.number(),
  findings: z.array(findingSchema),
})
export type RestorePreview = z.infer<typeof restorePreviewSchema>

export const restoreDetailSchema = z.object({
  plan_only: z.boolean(),
  preview: restorePreviewSchema,
  /** From the store. */
  read_bytes: z.number().default(0),
  /** Of what was written: what lay in its place already, so that it was not fetched. */
  skipped_bytes: z.number().default(0),
  written_bytes: z.number(),
  target: z.string(),
  checked: z.boolean(),
})
export type RestoreDetail = z.infer<typeof restoreDetailSchema>

export const verifyDetailSchema = z.object({
  valid: z.boolean(),
  /** Only a plan: `bytes_checked` and `objects_checked` are what a verification would read. */
  plan_only: z.boolean().default(false),
  bytes_checked: z.number(),
  objects_checked: z.number(),
  /** Of packs: those that the backup needs, and those of them that were due and within the share. */
  packs: z.object({ needed: z.number(), needed_bytes: z.number(), chosen: z.number(), chosen_bytes: z.number() }).optional(),
  /** Whole packs that were read and are as they were stored, by backup: one bit for each object of its manifest, from the lowest of the first byte on, in base64. */
  good: z
    .array(z.object({ backup_id: z.string().max(40), objects: z.string().max(40_000) }))
    .max(10_000)
    .default([]),
  /** Codes of what is wrong, with the object's key. */
  errors: z.array(z.object({ code: z.string(), object: z.string().optional(), message: z.string() })),
})
export type VerifyDetail = z.infer<typeof verifyDetailSchema>

export const testRestoreDetailSchema = z.object({
  valid: z.boolean(),
  /** Of all parts, listed below or not. */
  total: z.object({
    parts: z.number().int(),
    not_listed: z.number().int(),
    expected: z.number().int(),
    found: z.number().int(),
  }),
  /** Counts of at most a few hundred parts: those that differ first. */
  expected: fingerprintSchema,
  found: fingerprintSchema,
  findings: z.array(findingSchema),
  seconds: z.number(),
})
export type TestRestoreDetail = z.infer<typeof testRestoreDetailSchema>

export const foundSourceSchema = z.object({
  engine: z.string(),
  title: z.string(),
  /** What the source could be called; left out where the person has to say. */
  name: z.string().regex(NAME).optional(),
  facts: z.record(z.string(), z.string()),
  size_bytes: z.number().optional(),
  /** Arguments of `holdfast-agent source add NAME` that would protect it. */
  add: z.array(z.string()),
  findings: z.array(findingSchema),
})
export type FoundSource = z.infer<typeof foundSourceSchema>
