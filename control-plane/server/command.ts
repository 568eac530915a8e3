import { Command } from 'commander'
import type { Tree } from '../config/environment.ts'

export interface ServerCommandOptions {
  readonly config?: string
  readonly home?: string
  readonly port?: string
  readonly agentPort?: string
}

/** `holdfast server` as its help says it. `run` gets what was given, as settings that win over file and variables. */
export function serverCommand(version: string, run: (file: string | undefined, over: Tree) => Promise<void>): Command {
  return new Command('holdfast server')
    .description(
      'Runs the control plane until it is told to stop. Settings come from the file, then from HOLDFAST_* variables, then from here.',
    )
    .version(version)
    .option('--config <file>', 'server.yaml (HOLDFAST_CONFIG)')
    .option('--home <dir>', 'where the embedded catalog, the keyring and the first admin key lie')
    .option('--port <n>', 'port of the API, on the loopback address')
    .option('--agent-port <n>', 'port of the agents, on the loopback address; the two ports after it are used too')
    .action((options: ServerCommandOptions) => run(options.config, settingsOf(options)))
}

function settingsOf(options: ServerCommandOptions): Tree {
  const { home, port, agentPort } = options
  const listen: Tree = {
    ...(port === undefined ? {} : { api: `127.0.0.1:${port}` }),
    ...(agentPort === undefined ? {} : { agents: `127.0.0.1:${agentPort}` }),
  }
  return { ...(home === undefined ? {} : { home }), ...(Object.keys(listen).length === 0 ? {} : { listen }) }
}
