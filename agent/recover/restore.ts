import path from 'node:path'
import { z } from 'zod'
import { HoldfastError } from '../../shared/errors.ts'
import type { Facts } from '../../shared/manifest/manifest.ts'
import type { Finding } from '../../shared/results.ts'
import type { RestorePlan, Run } from '../engines/engine.ts'
import { engineFor } from '../engines/registry.ts'
import type { OpenedRecovery } from './open.ts'

export interface RecoveryTarget {
  /** A folder (files), or a folder in which the file is made (sqlite). */
  readonly to?: string
  /** For every other engine: its source configuration, as the agent's own configuration holds it. */
  readonly config?: unknown
  /** Further settings of the engine, beside any of these. */
  readonly settings: Readonly<Record<string, unknown>>
  /** Name of the database, folder or file beside that source. */
  readonly name?: string
  readonly parts: readonly string[]
  readonly overwrite: boolean
}

/**
 * Restores through the engine that made the backup, then counts what is there and compares. Returns what does not agree. Throws the
 * engine's errors, `source_exists` among them.
 */
export async function restoreRecovered(
  { reader, manifest }: OpenedRecovery,
  target: RecoveryTarget,
  run: Run,
): Promise<Finding[]> {
  const engine = engineFor(manifest.facts.engine)
  const parsed = engine.config.safeParse(configOf(manifest.facts, target))
  if (!parsed.success) {
    throw new HoldfastError(
      'invalid_config',
      `the configuration for engine ${engine.kind} is not usable: ${firstIssue(parsed.error)}`,
      {
        hint: `Give what a source of engine ${engine.kind} has; docs/agent.md lists its settings. --raw needs none.`,
      },
    )
  }
  const place = { config: parsed.data, targetName: target.name ?? null }
  const { parts, overwrite } = target
  const plan: RestorePlan<unknown> = { ...place, action: 'restore', parts, mapping: {}, overwrite }
  await engine.restore(plan, reader, run)
  // a part of a backup has other counts than the whole
  return parts.length > 0 ? [] : await engine.check({ ...place, restored: true }, reader.fingerprint, run)
}

const IN_A_FOLDER: readonly string[] = ['files', 'sqlite']

function configOf({ engine, source }: Facts, target: RecoveryTarget): unknown {
  const place = placeOf(engine, source, target)
  return typeof place === 'object' && place !== null ? { ...place, ...target.settings } : place
}

function placeOf(engine: string, source: string, { to, config }: RecoveryTarget): unknown {
  if (config !== undefined) return withoutEngine(config, engine)
  if (to !== undefined && engine === 'files') return { path: path.resolve(to) }
  if (to !== undefined && engine === 'sqlite') return { path: path.join(path.resolve(to), `${source}.db`) }
  const what =
    to === undefined ? 'it was not said where to restore to' : `a backup of engine ${engine} cannot be restored into a folder`
  throw new HoldfastError('invalid_argument', what, {
    hint: IN_A_FOLDER.includes(engine)
      ? `The backup is of engine ${engine}: give --to FOLDER.`
      : `Give --engine ${engine} --url URL with the database to make (--url-file for one with a password), or --raw --to FOLDER for its streams as they are.`,
  })
}

/** A person who names the engine of another backup than this one means another backup. */
export function requireEngine({ id, engine }: Facts, named: string | undefined): void {
  if (named === undefined || named === engine) return
  throw new HoldfastError('invalid_argument', `backup ${id} is of engine ${engine}, not of ${named}`, {
    hint: 'See what each backup is with: holdfast-agent recover list.',
  })
}

/** A source copied from an agent.yaml names its engine; labels are of no use here. */
export function withoutEngine(config: unknown, engine: string): unknown {
  const source = z.looseObject({ engine: z.string().optional(), labels: z.unknown().optional() }).safeParse(config)
  if (!source.success) return config
  const { engine: named, labels: _, ...settings } = source.data
  if (named === undefined || named === engine) return settings
  throw new HoldfastError('invalid_argument', `--config is of a source of engine ${named}; the backup is of engine ${engine}`, {
    hint: `Give the settings of a source of engine ${engine}.`,
  })
}

function firstIssue({ issues: [issue] }: z.ZodError): string {
  const where = issue?.path.join('.')
  return `${where ? `${where}: ` : ''}${issue?.message ?? 'not allowed'}`
}
