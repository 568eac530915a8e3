import { z } from 'zod'
import { HoldfastError } from '../../shared/errors.ts'
import { NAME } from '../../shared/ids.ts'
import { writtenPolicy } from './older-policy.ts'
import type { Policy } from './policy.ts'

/** fleet.yaml: targets and policies, as one value that is compared with the catalog and applied. */

const name = z.string().regex(NAME, 'use 1 to 63 characters of a-z, 0-9, dot, underscore and hyphen')

/** What a kind of target takes beside `kind` is its own affair (shared/storage), as is the refusal of what it does not know. */
const targetSchema = z.looseObject({ kind: z.string().regex(/^[a-z][a-z0-9-]{0,31}$/) })

export const fleetFileSchema = z
  .strictObject({
    targets: z.record(name, targetSchema).optional(),
    policies: z.record(name, writtenPolicy).optional(),
  })
  .superRefine((file, context) => {
    if (!file.targets || !file.policies) return
    for (const [policy, { targets }] of Object.entries(file.policies)) {
      if (Object.hasOwn(file.targets, targets[0])) continue
      context.addIssue({
        code: 'custom',
        path: ['policies', policy, 'targets'],
        message: `target ${targets[0]} is not in this file`,
      })
    }
  })
export type FleetFile = z.output<typeof fleetFileSchema>

/** Throws `invalid_config` naming every place that is wrong. A section left out leaves what is there as it is. */
export function parseFleetFile(value: unknown): FleetFile {
  const parsed = fleetFileSchema.safeParse(value)
  if (parsed.success) return parsed.data
  const places = parsed.error.issues
    .slice(0, 20)
    .map((issue) => `${issue.path.map(String).join('.') || 'file'}: ${issue.message}${scheduledCheck(issue, value)}`)
  throw new HoldfastError('invalid_config', `fleet file: ${places.join('; ')}`, {
    hint: 'Correct the places named; keys that are not known are refused so that a slip of the pen protects nothing in silence.',
    context: { places },
  })
}

/** Said beside the refusal: of these backups no later version will do it either. */
function scheduledCheck(issue: { code?: string; path: PropertyKey[] }, value: unknown): string {
  const [section, name, key] = issue.path
  if (issue.code !== 'unrecognized_keys' || section !== 'policies' || key !== 'verify') return ''
  const policies = (value as { policies?: Record<PropertyKey, { recipients?: unknown } | null> }).policies ?? {}
  if (policies[name ?? '']?.recipients !== 'recovery') return ''
  return ' (backups that are sealed to the recovery recipients alone can be neither verified nor test-restored on a schedule)'
}

export interface FieldChange {
  readonly path: string
  readonly from: unknown
  readonly to: unknown
}

export interface FleetChange {
  readonly kind: 'target' | 'policy'
  readonly name: string
  readonly action: 'create' | 'update' | 'delete'
  readonly fields: readonly FieldChange[]
}

export interface FleetState {
  readonly targets: Readonly<Record<string, Readonly<Record<string, unknown>>>>
  readonly policies: Readonly<Record<string, Policy>>
}

/** What applying the file would change: targets first, since policies name them, and deletions last. */
export function diffFleetFile(file: FleetFile, state: FleetState): FleetChange[] {
  const changes = [
    ...(file.targets ? changesOf('target', state.targets, file.targets) : []),
    ...(file.policies ? changesOf('policy', state.policies, file.policies) : []),
  ]
  return [
    ...changes.filter((change) => change.action !== 'delete'),
    ...changes.filter((change) => change.action === 'delete').reverse(),
  ]
}

type Named = Readonly<Record<string, unknown>>

function changesOf(kind: FleetChange['kind'], from: Named, to: Named): FleetChange[] {
  return [...new Set([...Object.keys(from), ...Object.keys(to)])].sort().flatMap((key): FleetChange[] => {
    const fields = fieldChanges(from[key], to[key], '')
    if (fields.length === 0) return []
    const action = from[key] === undefined ? 'create' : to[key] === undefined ? 'delete' : 'update'
    return [{ kind, name: key, action, fields }]
  })
}

function fieldChanges(from: unknown, to: unknown, path: string): FieldChange[] {
  if (isPlain(from) && isPlain(to)) {
    const keys = [...new Set([...Object.keys(from), ...Object.keys(to)])].sort()
    return keys.flatMap((key) => fieldChanges(from[key], to[key], path ? `${path}.${key}` : key))
  }
  return JSON.stringify(from) === JSON.stringify(to) ? [] : [{ path, from: from ?? null, to: to ?? null }]
}

const isPlain = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
