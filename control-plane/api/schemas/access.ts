import { z } from 'zod'
import { line, page, pageQuery, sourcePattern, time } from './common.ts'

export const ROLES = ['viewer', 'operator', 'admin'] as const
export type Role = (typeof ROLES)[number]

export const apiKeyView = z
  .object({
    id: z.string(),
    name: z.string(),
    role: z.enum(ROLES),
    sources: z.array(sourcePattern).describe('empty: all'),
    created_by: z.string(),
    created_at: time,
    expires_at: time.nullable(),
    revoked_at: time.nullable(),
    last_used_at: time.nullable(),
  })
  .meta({ id: 'ApiKey' })
export type ApiKeyView = z.infer<typeof apiKeyView>
export const apiKeyPage = page(apiKeyView).meta({ id: 'ApiKeyPage' })

const TEN_YEARS = 10 * 366 * 24 * 3600
export const createApiKeyBody = z
  .strictObject({
    name: line(63).min(1),
    role: z.enum(ROLES),
    sources: z.array(sourcePattern).max(100).default([]),
    valid_seconds: z.number().int().min(60).max(TEN_YEARS).optional().describe('left out: until it is revoked'),
  })
  .meta({ id: 'CreateApiKey' })
export type CreateApiKey = z.infer<typeof createApiKeyBody>
/** The key itself is shown this once. */
export const newApiKeyView = z.object({ ...apiKeyView.shape, key: z.string() }).meta({ id: 'NewApiKey' })
export type NewApiKeyView = z.infer<typeof newApiKeyView>
export const apiKeyParams = z.strictObject({ id: z.string().regex(/^[0-9a-z-]{1,64}$/) })

export const auditView = z
  .object({
    sequence: z.number().int().positive(),
    at: time,
    actor: z.string(),
    action: z.string(),
    subject: z.string(),
    outcome: z.enum(['done', 'refused', 'failed']),
    detail: z.record(z.string(), z.unknown()),
    hash: z.string(),
  })
  .meta({ id: 'AuditEntry' })
export type AuditView = z.infer<typeof auditView>
export const auditPage = page(auditView).meta({ id: 'AuditPage' })
export const auditQuery = z.strictObject({
  ...pageQuery,
  actor: line(200).optional(),
  action: line(100).optional(),
  subject: line(200).optional(),
})
export type AuditFilter = Pick<z.infer<typeof auditQuery>, 'actor' | 'action' | 'subject'>
export const auditCheckView = z
  .object({
    valid: z.boolean(),
    entries: z.number().int().nonnegative(),
    head: z.string().nullable(),
    errors: z.array(z.object({ sequence: z.number().int(), message: z.string() })),
  })
  .meta({ id: 'AuditCheck' })
export type AuditCheckView = z.infer<typeof auditCheckView>
