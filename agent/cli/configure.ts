import { readFile } from 'node:fs/promises'
import { Command } from 'commander'
import { systemClock } from '../../shared/clock.ts'
import { HoldfastError } from '../../shared/errors.ts'
import { createLogger } from '../../shared/log.ts'
import { Secret } from '../../shared/secret.ts'
import { installConfig } from '../config/agent-config.ts'
import { makeHome } from '../config/home.ts'
import { AGENT_VERSION } from '../version.ts'
import type { CliDeps } from './deps.ts'

interface ConfigureOptions {
  server: string
  enrolmentServer?: string
  token?: string
  tokenFile?: string
  pin: string
  configPath?: string
  replace?: boolean
}

/** `configure`: joins the fleet. Makes this host's own key, checks the pin before anything is sent, enrols. */
export function configureCommand(deps: CliDeps): Command {
  return new Command('configure')
    .description('join a fleet: paste what `holdfast agents invite` printed')
    .requiredOption('--server <host:port>', 'the agents’ port of the control plane')
    .option('--enrolment-server <host:port>', 'the enrolment port, where it is not the next one')
    .option('--token <token>', 'the invitation’s token; it works once. HOLDFAST_TOKEN does the same')
    .option('--token-file <file>', 'file with the token; - reads standard input')
    .requiredOption('--pin <sha256:...>', 'fingerprint of the fleet’s authority')
    .option('--config-path <file>', 'an agent.yaml with sources and labels to begin with')
    .option('--replace', 'give up the identity that this home has')
    .action(async (options: ConfigureOptions, command: Command) => {
      const home = deps.home()
      await makeHome(home)
      const token = await readToken(options, deps)
      if (options.configPath !== undefined) await installConfig(home, await readFile(options.configPath, 'utf8'))
      // here and not at the start: an agent that runs would hold it for ever
      const { enroll } = await import('../link/enroll.ts')
      const identity = await enroll({
        server: options.server,
        enrolmentServer: options.enrolmentServer,
        token,
        pin: options.pin,
        home: home.state,
        agentVersion: AGENT_VERSION,
        clock: systemClock,
        log: createLogger({ level: 'warn' }),
        replace: options.replace,
      })
      deps.print(`enrolled as ${identity.name}; the certificate is valid until ${identity.notAfter.toISOString()}`)
      deps.print(`next: ${nextCommand(command)}`)
    })
}

/** With the --home that was given here: without it the agent would look for its identity elsewhere. */
function nextCommand(command: Command): string {
  const { home } = command.optsWithGlobals<{ home?: string }>()
  return home === undefined ? 'holdfast-agent run' : `holdfast-agent --home ${home} run`
}

async function readToken(options: ConfigureOptions, deps: CliDeps): Promise<Secret> {
  const text =
    options.tokenFile === undefined
      ? (options.token ?? deps.environment.HOLDFAST_TOKEN)
      : options.tokenFile === '-'
        ? await deps.readStdin()
        : await readFile(options.tokenFile, 'utf8')
  if (text?.trim()) return new Secret(text.trim())
  throw new HoldfastError('invalid_argument', 'no token was given', {
    hint: 'Pass --token, --token-file (or - for standard input), or set HOLDFAST_TOKEN.',
  })
}
