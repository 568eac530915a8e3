import { mkdir, rm } from 'node:fs/promises'
import path from 'node:path'
import { Command, Option } from 'commander'
import { writeDurably } from '../../shared/durable-file.ts'
import { requireName } from '../../shared/ids.ts'
import { addSource, loadAgentConfig, removeSource } from '../config/agent-config.ts'
import { type AgentHome, makeHome } from '../config/home.ts'
import { compileSource } from '../config/sources.ts'
import { engineKinds } from '../engines/registry.ts'
import type { CliDeps } from './deps.ts'
import { preflightHere } from './looking.ts'
import { collect, settingsOf, splitPair, URL_VARIABLE } from './settings.ts'

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
    .option(
      '--url-file <file>',
      `file that holds the connection with its password; - reads it from standard input. ${URL_VARIABLE} does the same`,
    )
    .option('--option <key=value>', 'a further setting of the engine; a value in JSON or plain text', collect, [])
    .option('--label <key=value>', 'a label that policies select by', collect, [])
    .option('--replace', 'change the source that is there')
    .action(async (name: string, options: AddOptions) => {
      const home = deps.home()
      await makeHome(home)
      const given = givenConnection(options, deps)
      const settings = entry(home, requireName('source name', name), { ...options, ...(given ? { urlFile: '-' } : {}) })
      const keepSecret = given ? async () => keepUrl(home, name, await given()) : undefined
      await addSource(home, name, settings, { replace: options.replace, keepSecret })
      deps.print(
        `source ${name} added; an agent that runs here has it at once, and \`holdfast test\` says whether it can be backed up`,
      )
      await warn(home, name, deps)
    })
  source
    .command('list')
    .description('the sources of this host')
    .addOption(new Option('--format <format>').choices(['table', 'json']).default('table'))
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

/** It stays all the same: a store may come later, and be made by a restore. */
async function warn(home: AgentHome, name: string, deps: CliDeps): Promise<void> {
  const findings = await preflightHere(deps, compileSource(await loadAgentConfig(home), name))
  for (const { severity, code, message, hint } of findings) {
    if (severity === 'info') continue
    deps.printError(`warning: ${severity === 'error' ? 'it cannot be backed up as it is: ' : ''}${code}: ${message}`)
    if (hint) deps.printError(`  ${hint}`)
  }
}

function entry(home: AgentHome, name: string, options: AddOptions): Record<string, unknown> & { engine: string } {
  const settings: Record<string, unknown> & { engine: string } = { engine: options.engine }
  if (options.path !== undefined) settings.path = path.resolve(options.path)
  if (options.url !== undefined) settings.url = options.url
  if (options.urlFile !== undefined) {
    settings.url_file = options.urlFile === '-' ? keptUrl(home, name) : path.resolve(options.urlFile)
  }
  Object.assign(settings, settingsOf(options.option))
  if (options.label.length > 0) settings.labels = Object.fromEntries(options.label.map((pair) => splitPair('--label', pair)))
  return settings
}

/** A connection that comes by standard input or environment, and so has to be kept here. */
function givenConnection({ url, urlFile, path: place }: AddOptions, deps: CliDeps): (() => Promise<string>) | undefined {
  if (urlFile === '-') return deps.readStdin
  const fromEnvironment = deps.environment[URL_VARIABLE]
  const elsewhere = url !== undefined || urlFile !== undefined || place !== undefined
  return fromEnvironment === undefined || elsewhere ? undefined : async () => fromEnvironment
}

/** In a file that only this user can read. */
async function keepUrl(home: AgentHome, name: string, url: string): Promise<void> {
  const file = keptUrl(home, name)
  await mkdir(path.dirname(file), { recursive: true, mode: 0o700 })
  await writeDurably(file, `${url.trim()}\n`)
}

const keptUrl = (home: AgentHome, name: string) => path.join(home.config, 'secrets', `${name}.url`)
