import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { writeDurably } from '../../shared/durable-file.ts'
import { HoldfastError } from '../../shared/errors.ts'
import { requireName } from '../../shared/ids.ts'
import { readYaml, yamlDocument } from '../../shared/yaml.ts'
import type { AgentHome } from './home.ts'
import { type AgentConfig, agentConfigSchema, compileSource, configError } from './sources.ts'

const configFile = (home: AgentHome): string => path.join(home.config, 'agent.yaml')

/** agent.yaml, or its defaults when there is none. Unknown keys are refused with the key's name. */
export async function loadAgentConfig(home: AgentHome): Promise<AgentConfig> {
  return parse(await readText(home), configFile(home))
}

function parse(text: string, file: string): AgentConfig {
  const parsed = agentConfigSchema.safeParse(readYaml({ name: file, text }) ?? {})
  if (!parsed.success) throw configError(file, parsed.error)
  return parsed.data
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
  const document = yamlDocument({ name: file, text })
  if (document.contents === null) document.contents = document.createNode({}) as never
  document.setIn(['sources', name], source)
  await writeDurably(file, document.toString())
}

export async function removeSource(home: AgentHome, name: string): Promise<void> {
  const file = configFile(home)
  const text = await readText(home)
  compileSource(parse(text, file), name)
  const document = yamlDocument({ name: file, text })
  document.deleteIn(['sources', name])
  await writeDurably(file, document.toString())
}

/** Puts a whole agent.yaml in place (`configure --config-path`), checked first. */
export async function installConfig(home: AgentHome, text: string): Promise<void> {
  const agent = parse(text, '--config-path')
  for (const name of Object.keys(agent.sources)) compileSource(agent, name)
  await writeDurably(configFile(home), text)
}

async function readText(home: AgentHome): Promise<string> {
  try {
    return await readFile(configFile(home), 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return ''
    throw error
  }
}
