import path from 'node:path'
import { z } from 'zod'
import { HoldfastError } from '../../shared/errors.ts'
import type { Finding } from '../../shared/results.ts'
import type { RestorePlan, Run } from '../engines/engine.ts'
import { engineFor } from '../engines/registry.ts'
import type { OpenedRecovery } from './open.ts'

export interface RecoveryTarget {
  /** A folder (files), or a folder in which the file is made (sqlite). */
  readonly to?: string
  /** For every other engine: its source configuration, as the agent's own configuration holds it. */
  readonly config?: unknown
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
  const parsed = engine.config.safeParse(configOf(manifest.facts.engine, manifest.facts.source, target))
  if (!parsed.success) {
    throw new HoldfastError(
      'invalid_config',
      `the configuration for engine ${engine.kind} is not usable: ${z.prettifyError(parsed.error)}`,
      {
        hint: `Give --config with the settings that a source of engine ${engine.kind} has, or restore with --raw.`,
      },
    )
  }
  const place = { config: parsed.data, targetName: target.name ?? null }
  const { parts, overwrite } = target
  const plan: RestorePlan<unknown> = { ...place, action: 'restore', parts, mapping: {}, overwrite }
  await engine.restore(plan, reader, run)
  // a part of a backup has other counts than the whole
  return parts.length > 0 ? [] : await engine.check(place, reader.fingerprint, run)
}

function configOf(engine: string, source: string, { to, config }: RecoveryTarget): unknown {
  if (config !== undefined) return withoutEngine(config, engine)
  if (to && engine === 'files') return { path: path.resolve(to) }
  if (to && engine === 'sqlite') return { path: path.join(path.resolve(to), `${source}.db`) }
  throw new HoldfastError('invalid_argument', `a backup of engine ${engine} cannot be restored into a folder`, {
    hint: 'Give --config FILE with the settings of a source of that engine and --name NEWNAME, or --raw --to FOLDER for its streams as they are.',
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
