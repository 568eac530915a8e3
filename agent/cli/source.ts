import { mkdir, rm } from 'node:fs/promises'
import path from 'node:path'
import { Command } from 'commander'
import { writeDurably } from '../../shared/durable-file.ts'
import { HoldfastError } from '../../shared/errors.ts'
import { requireName } from '../../shared/ids.ts'
import { addSource, compileSource, loadAgentConfig, removeSource } from '../config/agent-config.ts'
import { type AgentHome, makeHome } from '../config/home.ts'
import { engineKinds } from '../engines/registry.ts'
import type { CliDeps } from './deps.ts'

interface AddOptions {
  engine: string
  path?: string
  url?: string
  urlFile?: string
  option: string[]
  label: string[]
  replace?: boolean
}

/** `source add|list|remove`: what this host protects. Secrets stay in this host, in files of their own. */
export function sourceCommand(deps: CliDeps): Command {
  const source = new Command('source').description('what this host protects')
  source
    .command('add')
    .argument('<name>', 'name of the source; the control plane shows it as host/name')
    .description('protect a data store of this host')
    .requiredOption('--engine <kind>', `kind of store: ${engineKinds().join(', ')}`)
    .option('--path <path>', 'file or folder (sqlite, files)')
    .option('--url <url>', 'connection without a password (postgres)')
    .option('--url-file <file>', 'file that holds the connection with its password; - reads it from standard input')
    .option('--option <key=value>', 'a further setting of the engine; a value in JSON or plain text', collect, [])
    .option('--label <key=value>', 'a label that policies select by', collect, [])
    .option('--replace', 'change the source that is there')
    .action(async (name: string, options: AddOptions) => {
      const home = deps.home()
      await makeHome(home)
      const settings = entry(home, requireName('source name', name), options)
      const keepSecret = options.urlFile === '-' ? () => keepUrl(home, name, deps) : undefined
      await addSource(home, name, settings, { replace: options.replace, keepSecret })
      deps.print(
        `source ${name} added; an agent that runs here has it at once, and \`holdfast test\` says whether it can be backed up`,
      )
    })
  source
    .command('list')
    .description('the sources of this host')
    .option('--format <format>', 'table or json', 'table')
    .action(async (options: { format: string }) => {
      const agent = await loadAgentConfig(deps.home())
      const sources = Object.entries(agent.sources).map(([name, entry]) => ({ name, engine: entry.engine, labels: entry.labels }))
      if (options.format === 'json') return deps.print(JSON.stringify({ items: sources }, null, 2))
      for (const item of sources) deps.print(`${item.name}  ${item.engine}`)
    })
  source
    .command('remove')
    .argument('<name>')
    .description('no longer protect a store; its backups stay')
    .action(async (name: string) => {
      const home = deps.home()
      compileSource(await loadAgentConfig(home), name)
      await removeSource(home, name)
      await rm(keptUrl(home, name), { force: true })
      deps.print(`source ${name} removed; its backups stay`)
    })
  return source
}

const collect = (value: string, all: string[]): string[] => [...all, value]

function entry(home: AgentHome, name: string, options: AddOptions): Record<string, unknown> & { engine: string } {
  const settings: Record<string, unknown> & { engine: string } = { engine: options.engine }
  if (options.path !== undefined) settings.path = path.resolve(options.path)
  if (options.url !== undefined) settings.url = options.url
  if (options.urlFile !== undefined) {
    settings.url_file = options.urlFile === '-' ? keptUrl(home, name) : path.resolve(options.urlFile)
  }
  for (const pair of options.option) {
    const [key, value] = splitPair('--option', pair)
    settings[key] = jsonOrText(value)
  }
  if (options.label.length > 0) settings.labels = Object.fromEntries(options.label.map((pair) => splitPair('--label', pair)))
  return settings
}

/** A connection read from standard input is kept in a file that only this user can read. */
async function keepUrl(home: AgentHome, name: string, deps: CliDeps): Promise<void> {
  const file = keptUrl(home, name)
  await mkdir(path.dirname(file), { recursive: true, mode: 0o700 })
  await writeDurably(file, `${(await deps.readStdin()).trim()}\n`)
}

const keptUrl = (home: AgentHome, name: string) => path.join(home.config, 'secrets', `${name}.url`)

function splitPair(option: string, pair: string): [string, string] {
  const at = pair.indexOf('=')
  if (at > 0) return [pair.slice(0, at), pair.slice(at + 1)]
  throw new HoldfastError('invalid_argument', `${option} ${JSON.stringify(pair)} is not of the form key=value`, {
    hint: `Write ${option} key=value.`,
  })
}

function jsonOrText(value: string): unknown {
  try {
    return JSON.parse(value)
  } catch (error) {
    if (error instanceof SyntaxError) return value
    throw error
  }
}
