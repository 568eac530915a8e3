import { z } from 'zod'
import { findingView, name, page, pageQuery, time } from './common.ts'

export const targetView = z
  .object({
    name,
    kind: z.string(),
    config: z.record(z.string(), z.unknown()),
    facts: z.record(z.string(), z.unknown()).nullable(),
    probed_at: time.nullable(),
  })
  .meta({ id: 'Target' })
export type TargetView = z.infer<typeof targetView>
export const targetPage = page(targetView).meta({ id: 'TargetPage' })

export const policyView = z
  .object({
    name,
    spec: z.record(z.string(), z.unknown()),
    revision: z.number().int(),
    sources: z.array(z.string()).describe('what it selects now'),
    updated_at: time,
  })
  .meta({ id: 'Policy' })
export type PolicyView = z.infer<typeof policyView>
export const policyPage = page(policyView).meta({ id: 'PolicyPage' })
export const listQuery = z.strictObject(pageQuery)

/** fleet.yaml as JSON. Its own schema (domain/fleet-file.ts) refuses unknown keys and says where. */
export const fleetBody = z.record(z.string().max(63), z.unknown()).meta({ id: 'FleetFile' })
export type FleetBody = z.infer<typeof fleetBody>

export const changeView = z.object({
  kind: z.enum(['target', 'policy']),
  name,
  action: z.enum(['create', 'update', 'delete']),
  fields: z.array(z.object({ path: z.string(), from: z.unknown(), to: z.unknown() })),
})
export const fleetDiffView = z
  .object({
    applied: z.boolean(),
    changes: z.array(changeView),
    findings: z.array(findingView).describe('what whoever makes these policies has to know'),
  })
  .meta({ id: 'FleetDiff' })
export type FleetDiffView = z.infer<typeof fleetDiffView>
