import { homedir, hostname } from 'node:os'
import { CommanderError } from 'commander'
import { asHoldfastError } from '../shared/errors.ts'
import { exitStatusOf } from '../shared/exit-status.ts'
import type { CliDeps } from './cli/deps.ts'
import { agentProgram } from './cli/program.ts'
import { agentHome } from './config/home.ts'

/** The composition root of the agent's program: the only reader of the process's environment. */

const stop = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stop.abort(new Error(`stopped by ${signal}`)))

const deps: CliDeps = {
  home: () =>
    agentHome({
      home: program.opts<{ home?: string }>().home ?? process.env.HOLDFAST_AGENT_HOME,
      cwd: process.cwd(),
      root: process.getuid?.() === 0,
      userHome: homedir(),
    }),
  print: (line) => process.stdout.write(`${line}\n`),
  printError: (line) => process.stderr.write(`${line}\n`),
  readStdin: async () => {
    const pieces: Buffer[] = []
    for await (const piece of process.stdin) pieces.push(piece as Buffer)
    return Buffer.concat(pieces).toString('utf8')
  },
  environment: process.env,
  hostName: hostname().toLowerCase(),
  userHome: homedir(),
  stop: stop.signal,
}

const program = agentProgram(deps)
try {
  await program.parseAsync(process.argv)
} catch (error) {
  if (error instanceof CommanderError) {
    process.exitCode = error.exitCode === 0 ? 0 : 2
  } else {
    const failure = asHoldfastError(error)
    deps.printError(`holdfast-agent: ${failure.message}`)
    if (failure.hint) deps.printError(`  ${failure.hint}`)
    process.exitCode = exitStatusOf(failure.code)
  }
}
// all of it is done and said: a connection that still waits for a store which does not answer must not keep the process
if (stop.signal.aborted) process.exit()
