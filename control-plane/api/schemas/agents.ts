import { z } from 'zod'
import { line, name, page, pageQuery, sourceName, time } from './common.ts'

export const agentView = z
  .object({
    id: z.string(),
    name,
    state: z.enum(['active', 'suspended', 'revoked', 'replaced']),
    state_reason: z.string().nullable(),
    connected: z.boolean(),
    version: z.string().nullable(),
    os: z.string().nullable(),
    arch: z.string().nullable(),
    labels: z.record(z.string(), z.string()),
    clock_offset_seconds: z.number().nullable(),
    sources: z.array(sourceName),
    certificate: z.object({ serial: z.string(), generation: z.number().int(), not_after: time }).nullable(),
    created_at: time,
    last_seen_at: time.nullable(),
  })
  .meta({ id: 'Agent' })
export type AgentView = z.infer<typeof agentView>
export const agentPage = page(agentView).meta({ id: 'AgentPage' })
export const agentQuery = z.strictObject({
  ...pageQuery,
  all: z.stringbool().default(false).describe('revoked and replaced ones too'),
})
export const agentParams = z.strictObject({ name })

/** The longest an invitation is valid. */
export const MAX_INVITATION_SECONDS = 7 * 24 * 3600
export const inviteBody = z
  .strictObject({
    name,
    valid_seconds: z.number().int().min(60).max(MAX_INVITATION_SECONDS).default(900),
    replace: z.boolean().default(false).describe('an agent of this name loses its identity when the new one enrols'),
  })
  .meta({ id: 'InviteAgent' })
export type InviteAgent = z.infer<typeof inviteBody>
export const invitationView = z
  .object({
    name,
    /** Shown once. */
    token: z.string(),
    pin: z.string().describe('sha256: and the fingerprint of the certificate that the control plane shows'),
    server: z.string().describe('host:port'),
    expires_at: time,
    command: z.string().describe('to be pasted on the host'),
  })
  .meta({ id: 'Invitation' })
export type InvitationView = z.infer<typeof invitationView>

export const revokeBody = z.strictObject({ reason: line(500).optional() }).meta({ id: 'RevokeAgent' })

export const sourceView = z
  .object({
    source: sourceName,
    engine: z.string(),
    agent: name,
    connected: z.boolean(),
    present: z.boolean().describe("false: no longer in the agent's configuration; its backups remain"),
    labels: z.record(z.string(), z.string()),
    facts: z.record(z.string(), z.string()),
    policies: z.array(name),
    last_good_at: time.nullable(),
    last_good_id: z.string().nullable(),
    last_seen_at: time,
  })
  .meta({ id: 'Source' })
export type SourceView = z.infer<typeof sourceView>
export const sourceParams = z.strictObject({ host: name, name })
export const sourcePage = page(sourceView).meta({ id: 'SourcePage' })
export const sourceQuery = z.strictObject({
  ...pageQuery,
  engine: z
    .string()
    .max(32)
    .regex(/^[a-z][a-z0-9-]*$/)
    .optional(),
})
