import { Command, CommanderError } from 'commander'
import { asHoldfastError, ERRORS, type HoldfastError } from '../../shared/errors.ts'
import { EXIT, type ExitStatus, exitStatusOf } from '../../shared/exit-status.ts'
import { type Cli, type CommonOptions, connect } from './cli.ts'
import { accessCommands } from './commands/access.ts'
import { agentCommands } from './commands/agents.ts'
import { backupCommands } from './commands/backups.ts'
import { checkCommands } from './commands/check.ts'
import { completionCommand } from './commands/completion.ts'
import { createCommand } from './commands/create.ts'
import { fleetCommands } from './commands/fleet.ts'
import { jobCommands } from './commands/jobs.ts'
import { restoreCommand } from './commands/restore.ts'
import { unlockCommand } from './commands/unlock.ts'
import type { Io } from './io.ts'
import { printJson } from './print.ts'
import { safe } from './text.ts'

/**
 * Makes commander's action of a command's function: it gets the connected Cli, then the arguments, then the options, as the
 * command itself declares them. Commander hands them over untyped, hence `never`.
 */
export type Run = (action: (cli: Cli, ...rest: never[]) => Promise<ExitStatus>) => (...given: unknown[]) => Promise<void>

export interface ProgramOptions {
  readonly io: Io
  readonly version: string
  finish(status: ExitStatus): void
}

export function createProgram({ io, version, finish }: ProgramOptions): Command {
  const program = new Command('holdfast')
    .description('Back up and restore a whole fleet of data stores from one place.')
    .version(version)
    .configureOutput({ writeOut: (text) => io.out(text), writeErr: (text) => io.err(text) })
    .configureHelp({ showGlobalOptions: false, sortSubcommands: false })
    .helpCommand(true)
    .exitOverride()
  const run: Run =
    (action) =>
    async (...given) => {
      const command = given.pop() as Command
      const options = command.optsWithGlobals<CommonOptions>()
      const rest = [...given.slice(0, -1), options] as never[]
      finish(await action(await connect(io, options), ...rest))
    }
  program
    .command('server')
    .summary('run the control plane')
    .description('Runs the control plane. See "holdfast server --help".')
    .helpOption(false)
    .allowUnknownOption()
    .allowExcessArguments()
  createCommand(program, run)
  backupCommands(program, run)
  restoreCommand(program, run)
  checkCommands(program, run)
  jobCommands(program, run)
  unlockCommand(program, run)
  fleetCommands(program, run)
  agentCommands(program, run)
  accessCommands(program, run, { io, finish })
  completionCommand(program, io, finish)
  return program
}

/** Runs one command line (without node and script) and says how it ended. Never throws. */
export async function runCommandLine(options: { io: Io; version: string }, args: readonly string[]): Promise<ExitStatus> {
  let status: ExitStatus = EXIT.done
  const finish = (ended: ExitStatus) => {
    status = ended
  }
  const program = createProgram({ ...options, finish })
  try {
    await program.parseAsync([...args], { from: 'user' })
    return status
  } catch (error) {
    // commander has said what is wrong already; help and version are no errors
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.done : EXIT.wrongUse
    return failed(options.io, asHoldfastError(error), wantsJson(args))
  }
}

function wantsJson(args: readonly string[]): boolean {
  return args.includes('--format=json') || args[args.indexOf('--format') + 1] === 'json'
}

/** One place for errors: what and what to do on standard error; with `--format json` the problem itself as the one document. */
function failed(io: Io, error: HoldfastError, json: boolean): ExitStatus {
  io.err(`holdfast: ${safe(error.message)}\n`)
  if (error.hint) io.err(`${safe(error.hint)}\n`)
  if (json) printJson(io, error.context?.problem ?? localProblem(error))
  return exitStatusOf(error.code)
}

function localProblem(error: HoldfastError): Record<string, unknown> {
  const { code, message, hint, retry } = error
  return { type: `urn:holdfast:error:${code}`, title: code, status: ERRORS[code].http, detail: message, code, hint, retry }
}
