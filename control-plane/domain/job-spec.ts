import { z } from 'zod'
import type { JobKind } from './job.ts'

/** What was asked of a job, by kind. Kept in `jobs.spec`; snake_case because the API shows it. */

const backupId = z.string().regex(/^\d{8}T\d{6}Z-[0-9a-hjkmnp-tv-z]{10}$/)
const name = z.string().regex(/^[a-z0-9][a-z0-9._-]{0,62}$/)
/** A part of a source as its engine names it: any text but NUL. */
const part = z
  .string()
  .min(1)
  .max(4096)
  .refine((text) => !text.includes('\0'), 'must not contain NUL')

export const BACKUP_TYPES = ['full', 'incremental', 'differential'] as const
export type BackupType = (typeof BACKUP_TYPES)[number]

export const backupSpecSchema = z.strictObject({
  kind: z.literal('backup'),
  type: z.enum(BACKUP_TYPES),
  target: name,
  parts: z.array(part).max(10_000).default([]),
  dry_run: z.boolean().default(false),
  description: z.string().max(1000).nullable().default(null),
})

export const restoreSpecSchema = z.strictObject({
  kind: z.literal('restore'),
  backup_id: backupId,
  /** Source of the agent whose engine and connection are used. */
  via_source: name,
  /** Name of the database, folder or file; empty: the via source itself. */
  target_name: z.string().max(4096).default(''),
  parts: z.array(part).max(10_000).default([]),
  mapping: z.record(part, part).default({}),
  target_tenant: z.string().max(1000).default(''),
  overwrite_existing: z.boolean().default(false),
  verify_integrity: z.boolean().default(true),
  plan_only: z.boolean().default(false),
})

export const validateSpecSchema = z.strictObject({ kind: z.literal('validate'), backup_id: backupId })
export const verifySpecSchema = z.strictObject({
  kind: z.literal('verify'),
  backup_id: backupId,
  /** Only packs not verified for so long. 0: all. */
  older_than_seconds: z.number().int().min(0).max(0xffff_ffff).default(0),
  /** Of the bytes of packs, at most so many thousandths. */
  share_permille: z.number().int().min(1).max(1000).default(1000),
  plan_only: z.boolean().default(false),
})
export const testRestoreSpecSchema = z.strictObject({
  kind: z.literal('test-restore'),
  backup_id: backupId,
  via_source: name,
})
export const discoverSpecSchema = z.strictObject({ kind: z.literal('discover') })
export const preflightSpecSchema = z.strictObject({ kind: z.literal('preflight'), source: name })

export const jobSpecSchema = z.discriminatedUnion('kind', [
  backupSpecSchema,
  restoreSpecSchema,
  validateSpecSchema,
  verifySpecSchema,
  testRestoreSpecSchema,
  discoverSpecSchema,
  preflightSpecSchema,
])
export type JobSpec = z.infer<typeof jobSpecSchema>
export type JobSpecInput = z.input<typeof jobSpecSchema>
export type SpecOf<K extends JobKind> = Extract<JobSpec, { kind: K }>

/** It writes into a place that storage cannot fence. */
export function writesPlace(spec: JobSpec): boolean {
  return spec.kind === 'restore' && !spec.plan_only
}
