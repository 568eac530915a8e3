import { z } from 'zod'
import { HoldfastError } from '../../shared/errors.ts'
import { NAME } from '../../shared/ids.ts'
import type { Logger } from '../../shared/log.ts'
import { engineFor } from '../engines/registry.ts'

// What agent.yaml may hold, without what reads YAML: a job's process is handed its sources, and does without those 1.5 MB and 20 ms.

const label = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$/)

const sourceSchema = z
  .object({ engine: z.string(), labels: z.record(label, z.string().max(200)).default({}) })
  .catchall(z.unknown())

/** agent.yaml. What an engine makes of its source's other keys is the engine's own schema. */
export const agentConfigSchema = z.strictObject({
  labels: z.record(label, z.string().max(200)).default({}),
  /** Hosts whose backups may be restored onto this one, besides its own and those with the same `restore-group` label. */
  restores_from: z.array(z.string().regex(/^(\*|[a-z0-9][a-z0-9._-]{0,62})$/)).default([]),
  /** How long a backup goes on without the control plane before it fails, to be resumed later. */
  offline_limit_seconds: z.number().int().min(10).max(86_400).default(600),
  log_level: z.enum(['debug', 'info', 'warn', 'error']).default('info'),
  sources: z.record(z.string().regex(NAME), sourceSchema).default({}),
})
export type AgentConfig = z.infer<typeof agentConfigSchema>

export interface SourceConfig {
  readonly name: string
  readonly engine: string
  readonly labels: Readonly<Record<string, string>>
  /** Parsed by the engine's schema; secrets in the type Secret. */
  readonly config: unknown
}

export function configError(file: string, error: z.ZodError): HoldfastError {
  const issue = error.issues[0]
  const where = issue?.path.join('.') || 'the document'
  if (issue?.code === 'invalid_type' && issue.message.endsWith('received undefined')) {
    return new HoldfastError('invalid_config', `${file}: ${where} is missing`, {
      hint: `Give it; docs/agent.md lists the settings of each engine. On the command line they are --path, --url and --option ${where}=...`,
    })
  }
  return new HoldfastError('invalid_config', `${file}: ${where}: ${issue?.message ?? 'not allowed'}`, {
    hint: `Correct ${where} in ${file}; unknown keys are refused so that a misspelt one is noticed.`,
  })
}

/** Sources as the agent handed them to a job's process. */
export function parseSources(sources: Readonly<Record<string, unknown>>): AgentConfig {
  const parsed = agentConfigSchema.safeParse({ sources })
  if (!parsed.success) throw configError('sources', parsed.error)
  return parsed.data
}

/** The source's own configuration, compiled by its engine. */
export function compileSource(agent: AgentConfig, name: string): SourceConfig {
  const entry = agent.sources[name]
  if (!entry) {
    throw new HoldfastError('source_missing', `this agent has no source ${JSON.stringify(name)}`, {
      hint: 'Look at `holdfast-agent source list` and add it with `holdfast-agent source add`.',
    })
  }
  const { engine, labels, ...rest } = entry
  const parsed = engineFor(engine).config.safeParse(rest)
  if (!parsed.success) throw configError(`source ${name}`, parsed.error)
  return { name, engine, labels, config: parsed.data }
}

/** Compiles every source; one that is wrong is logged and left out, so that it cannot stop the others. */
export function compileSources(agent: AgentConfig, log: Logger): SourceConfig[] {
  return Object.keys(agent.sources).flatMap((name) => {
    try {
      return [compileSource(agent, name)]
    } catch (error) {
      log.error({ err: error, source: name }, 'source is not usable')
      return []
    }
  })
}
