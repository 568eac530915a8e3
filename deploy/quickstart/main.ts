import { hostname } from 'node:os'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { asHoldfastError, HoldfastError } from '../../shared/errors.ts'
import { exitStatusOf } from '../../shared/exit-status.ts'
import { quickstart } from './quickstart.ts'

/** `npm start`: a whole fleet on one machine, under one folder. The composition root of the quickstart. */

const USAGE = `Usage: npm start -- [--once] [--home DIR] [--port N] [--agent-port N]

  --once            end after the test restore; exit status 0 only if all of it held
  --home DIR        where everything is kept (default: data)
  --port N          of the API (default: 7440)
  --agent-port N    of the agents; the two ports after it are used too (default: 7443)
`

const stop = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => stop.abort(new HoldfastError('job_cancelled', 'stopped')))
}

try {
  const options = readOptions()
  if (options === null) process.stdout.write(USAGE)
  else process.exitCode = (await quickstart({ ...options, stop: stop.signal, environment: process.env })) ? 0 : 1
} catch (error) {
  const failure = asHoldfastError(error)
  process.stderr.write(`holdfast: ${failure.message}\n${failure.hint ? `  ${failure.hint}\n` : ''}`)
  if (failure.code === 'internal' && failure.cause instanceof Error) process.stderr.write(`${failure.cause.stack}\n`)
  process.exitCode = exitStatusOf(failure.code)
}

function readOptions() {
  let values: ReturnType<typeof parse>
  try {
    values = parse()
  } catch (cause) {
    throw new HoldfastError('invalid_argument', (cause as Error).message, { hint: 'See npm start -- --help.', cause })
  }
  if (values.help) return null
  return {
    once: values.once ?? false,
    home: path.resolve(values.home ?? 'data'),
    apiPort: port('--port', values.port ?? '7440', 0),
    agentPort: port('--agent-port', values['agent-port'] ?? '7443', 2),
    hostName: agentName(hostname()),
  }
}

function parse() {
  return parseArgs({
    options: {
      once: { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
      home: { type: 'string' },
      port: { type: 'string' },
      'agent-port': { type: 'string' },
    },
  }).values
}

function port(option: string, text: string, further: number): number {
  const value = Number(text)
  if (/^\d{1,5}$/.test(text) && value >= 1 && value + further <= 65_535) return value
  throw new HoldfastError('invalid_argument', `${option} ${text} is not a port that can be used`, {
    hint: `Give a number from 1 to ${65_535 - further}.`,
  })
}

/** The host's name, lower-cased, with what a name may not hold replaced. */
function agentName(host: string): string {
  const name = host
    .toLowerCase()
    .replace(/[^a-z0-9._-]+/g, '-')
    .replace(/\.{2,}/g, '.')
    .replace(/^[^a-z0-9]+/, '')
    .slice(0, 63)
  return name === '' ? 'localhost' : name
}
