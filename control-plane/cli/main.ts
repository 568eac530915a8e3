import process from 'node:process'
import { createInterface } from 'node:readline/promises'
import { systemClock } from '../../shared/clock.ts'
import { SERVER_VERSION } from '../version.ts'
import type { Io } from './io.ts'
import { runCommandLine } from './program.ts'

const io: Io = {
  out: (text) => void process.stdout.write(text),
  err: (text) => void process.stderr.write(text),
  outIsTerminal: process.stdout.isTTY === true,
  errIsTerminal: process.stderr.isTTY === true,
  canAsk: process.stdin.isTTY === true && process.stderr.isTTY === true,
  async ask(question) {
    const terminal = createInterface({ input: process.stdin, output: process.stderr })
    try {
      return await terminal.question(question)
    } finally {
      terminal.close()
    }
  },
  environment: process.env,
  cwd: process.cwd(),
  clock: systemClock,
  errStream: process.stderr,
}

// "holdfast list | head" closes the pipe early: that is no failure
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error
  process.exit(0)
})

process.exitCode = await runCommandLine({ io, version: SERVER_VERSION }, process.argv.slice(2))
