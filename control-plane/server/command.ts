import { Command } from 'commander'
import { HoldfastError } from '../../shared/errors.ts'
import type { Tree } from '../config/environment.ts'

export interface ServerCommandOptions {
  readonly config?: string
  readonly home?: string
  readonly port?: string
  readonly agentPort?: string
  readonly rebuildCatalog?: boolean
  readonly identity?: string
}

export interface RebuildRequest {
  readonly identityFile?: string
}

function rebuildOf(options: ServerCommandOptions): RebuildRequest | undefined {
  if (options.rebuildCatalog) return { identityFile: options.identity }
  if (options.identity === undefined) return undefined
  throw new HoldfastError('invalid_argument', '--identity is for --rebuild-catalog alone', { hint: 'Add --rebuild-catalog.' })
}

/** `holdfast server` as its help says it. `run` gets what was given, as settings that win over file and variables. */
export function serverCommand(
  version: string,
  run: (file: string | undefined, over: Tree, rebuild: RebuildRequest | undefined) => Promise<void>,
): Command {
  return new Command('holdfast server')
    .description(
      'Runs the control plane until it is told to stop. Settings come from the file, then from HOLDFAST_* variables, then from here.',
    )
    .version(version)
    .option('--config <file>', 'server.yaml (HOLDFAST_CONFIG)')
    .option('--home <dir>', 'where the embedded catalog, the keyring and the first admin key lie')
    .option('--port <n>', 'port of the API, on the loopback address')
    .option('--agent-port <n>', 'port of the agents, on the loopback address; the two ports after it are used too')
    .option(
      '--rebuild-catalog',
      'make the catalog again from its self-backup and from every manifest on the targets; the one before is kept aside',
    )
    .option('--identity <file>', 'with --rebuild-catalog, where the keyring is lost: a recovery identity file')
    .action((options: ServerCommandOptions) => run(options.config, settingsOf(options), rebuildOf(options)))
}

function settingsOf(options: ServerCommandOptions): Tree {
  const { home, port, agentPort } = options
  const listen: Tree = {
    ...(port === undefined ? {} : { api: `127.0.0.1:${port}` }),
    ...(agentPort === undefined ? {} : { agents: `127.0.0.1:${agentPort}` }),
  }
  return { ...(home === undefined ? {} : { home }), ...(Object.keys(listen).length === 0 ? {} : { listen }) }
}
