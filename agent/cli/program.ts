import { Command } from 'commander'
import { AGENT_VERSION } from '../version.ts'
import { configureCommand } from './configure.ts'
import type { CliDeps } from './deps.ts'
import { discoverCommand } from './discover.ts'
import { jobsCommand } from './jobs.ts'
import { recoverCommand } from './recover.ts'
import { runCommand } from './run.ts'
import { sourceCommand } from './source.ts'

/** `holdfast-agent`: one file a command. */
export function agentProgram(deps: CliDeps): Command {
  const program = new Command('holdfast-agent')
    .description('the Holdfast agent: backs up and restores the data stores of one host')
    .version(AGENT_VERSION)
    .option('--home <folder>', 'keep configuration, identity, journal and lists of this agent in one folder')
    .showHelpAfterError('(see --help)')
    .exitOverride()
    .addCommand(configureCommand(deps))
    .addCommand(runCommand(deps))
    .addCommand(discoverCommand(deps))
    .addCommand(sourceCommand(deps))
    .addCommand(jobsCommand(deps))
    .addCommand(recoverCommand(deps))
  inherit(program)
  return program
}

/** `addCommand` hands nothing down; without this a command's wrong use would end the process by itself, with status 1. */
function inherit(parent: Command): void {
  for (const command of parent.commands) {
    command.copyInheritedSettings(parent)
    inherit(command)
  }
}
