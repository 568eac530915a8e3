import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { parseDocument } from 'yaml'
import { z } from 'zod'
import { writeDurably } from '../../shared/durable-file.ts'
import { HoldfastError } from '../../shared/errors.ts'
import { NAME, requireName } from '../../shared/ids.ts'
import type { Logger } from '../../shared/log.ts'
import { engineFor } from '../engines/registry.ts'
import type { AgentHome } from './home.ts'

const label = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$/)

const sourceSchema = z
  .object({ engine: z.string(), labels: z.record(label, z.string().max(200)).default({}) })
  .catchall(z.unknown())

/** agent.yaml. What an engine makes of its source's other keys is the engine's own schema. */
const agentConfigSchema = z.strictObject({
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

const configFile = (home: AgentHome): string => path.join(home.config, 'agent.yaml')

/** agent.yaml, or its defaults when there is none. Unknown keys are refused with the key's name. */
export async function loadAgentConfig(home: AgentHome): Promise<AgentConfig> {
  return parse(await readText(home), configFile(home))
}

function parse(text: string, file: string): AgentConfig {
  const document = parseDocument(text, { maxAliasCount: 0 } as never)
  if (document.errors.length > 0) {
    throw new HoldfastError('invalid_config', `${file} is not valid YAML: ${document.errors[0]?.message.split('\n')[0]}`, {
      hint: 'Mend the file at the place named and start again.',
    })
  }
  const parsed = agentConfigSchema.safeParse(plainValue(document, file) ?? {})
  if (!parsed.success) throw configError(file, parsed.error)
  return parsed.data
}

/** Without aliases: nested ones grow a small file to any size. */
function plainValue(document: ReturnType<typeof parseDocument>, file: string): unknown {
  try {
    return document.toJS({ maxAliasCount: 0 })
  } catch (cause) {
    throw new HoldfastError('invalid_config', `${file} uses YAML aliases (&name, *name), which are not allowed`, {
      hint: 'Write the repeated settings out at each place.',
      cause,
    })
  }
}

function configError(file: string, error: z.ZodError): HoldfastError {
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

/** Adds a source after its engine has accepted the configuration. An existing name needs `replace`. */
export async function addSource(
  home: AgentHome,
  name: string,
  source: Record<string, unknown> & { engine: string },
  options: { replace?: boolean; keepSecret?: () => Promise<void> } = {},
): Promise<void> {
  requireName('source name', name)
  const file = configFile(home)
  const text = await readText(home)
  const agent = parse(text, file)
  if (agent.sources[name] && !options.replace) {
    throw new HoldfastError('already_exists', `source ${name} is already configured`, {
      hint: 'Choose another name, or pass --replace to change the one that is there.',
    })
  }
  compileSource({ ...agent, sources: { ...agent.sources, [name]: { labels: {}, ...source } } }, name)
  // only now: a source that is refused must not change the connection of the one that is there
  await options.keepSecret?.()
  const document = parseDocument(text)
  if (document.contents === null) document.contents = document.createNode({}) as never
  document.setIn(['sources', name], source)
  await writeDurably(file, document.toString())
}

export async function removeSource(home: AgentHome, name: string): Promise<void> {
  const text = await readText(home)
  compileSource(parse(text, configFile(home)), name)
  const document = parseDocument(text)
  document.deleteIn(['sources', name])
  await writeDurably(configFile(home), document.toString())
}

/** Puts a whole agent.yaml in place (`configure --config-path`), checked first. */
export async function installConfig(home: AgentHome, text: string): Promise<void> {
  const agent = parse(text, '--config-path')
  for (const name of Object.keys(agent.sources)) compileSource(agent, name)
  await writeDurably(configFile(home), text)
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

async function readText(home: AgentHome): Promise<string> {
  try {
    return await readFile(configFile(home), 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return ''
    throw error
  }
}
