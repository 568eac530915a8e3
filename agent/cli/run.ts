import { Command } from 'commander'
import { systemClock } from '../../shared/clock.ts'
import { createLogger } from '../../shared/log.ts'
import { startAgent } from '../app.ts'
import { loadAgentConfig } from '../config/agent-config.ts'
import type { CliDeps } from './deps.ts'

/** `run`: the agent's program, until it is told to stop. */
export function runCommand(deps: CliDeps): Command {
  return new Command('run').description('run the agent until SIGINT or SIGTERM').action(async () => {
    const home = deps.home()
    const log = createLogger({ level: (await loadAgentConfig(home)).log_level })
    const agent = await startAgent({
      home,
      clock: systemClock,
      log,
      searchPath: deps.environment.PATH ?? '/usr/local/bin:/usr/bin:/bin',
      userHome: deps.userHome,
      jobProgram: deps.environment.HOLDFAST_JOB_PROGRAM,
    })
    log.info({ agent: agent.name }, 'agent started')
    await aborted(deps.stop)
    await agent.close()
    log.info({ agent: agent.name }, 'agent stopped')
  })
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve()
    signal.addEventListener('abort', () => resolve(), { once: true })
  })
}
