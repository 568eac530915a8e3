import { ACCESS } from '../../control-plane/api/access.ts'
import type { ServerOptions } from '../../control-plane/server/options.ts'
import { startServer } from '../../control-plane/server/start-server.ts'
import { createLogger } from '../../shared/log.ts'
import { Secret } from '../../shared/secret.ts'
import { ShiftedClock } from './shifted-clock.ts'

/**
 * A control plane that can be killed and whose clock a test moves: a program that is given its options as JSON, the address of a catalog
 * by its environment, and its clock's shift by messages. It ends with whoever started it.
 */

const clock = new ShiftedClock()
process.on('message', (message: { shiftMs: number }) => {
  clock.shiftMs = message.shiftMs
})
const { logLevel, ...options } = JSON.parse(process.argv[2] ?? '') as Omit<ServerOptions, 'clock' | 'log'> & { logLevel: string }
const { HOLDFAST_TEST_CATALOG: url } = process.env
const catalog = url === undefined ? options.catalog : ({ kind: 'postgres', url: new Secret(url) } as const)
/** The limits are for operators, and not for a test that looks forty times a second. */
const access = Object.fromEntries(Object.entries(ACCESS).map(([name, row]) => [name, { ...row, perMinute: 1_000_000 }]))
const server = await startServer({ ...options, catalog, access, clock, log: createLogger({ level: logLevel }) })
const end = () => void server.close().then(() => process.exit(0))
process.once('SIGTERM', end)
process.once('disconnect', end)
process.stdout.write('control plane started\n')
