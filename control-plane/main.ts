import { readFile } from 'node:fs/promises'
import process from 'node:process'
import { parseIdentityFile } from '../shared/age/age.ts'
import { systemClock } from '../shared/clock.ts'
import { asHoldfastError, HoldfastError } from '../shared/errors.ts'
import { exitStatusOf } from '../shared/exit-status.ts'
import { createLogger, type Logger } from '../shared/log.ts'
import { verifyingKeyOfIdentityFile } from '../shared/manifest/verifying-key.ts'
import type { Tree } from './config/environment.ts'
import { loadServerConfig } from './config/server-config.ts'
import { type RebuildRequest, serverCommand } from './server/command.ts'
import { DEFAULT_LIMITS } from './server/options.ts'
import type { Rebuild } from './server/rebuild.ts'
import { startServer } from './server/start-server.ts'
import { SERVER_VERSION } from './version.ts'

/** `holdfast server`. The composition root of the control plane. */

const stop = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => stop.abort())

async function serve(file: string | undefined, over: Tree, rebuild: RebuildRequest | undefined): Promise<void> {
  const environment = process.env
  const config = await loadServerConfig({ file: file ?? environment.HOLDFAST_CONFIG, environment, cwd: process.cwd(), over })
  const log = createLogger({ level: config.logLevel })
  const server = await startServer({
    home: config.home,
    catalog: config.catalog,
    listen: { ...config.listen, tls: config.tls ?? undefined },
    hosts: config.advertise,
    targets: config.targets,
    defaultTarget: config.defaultTarget,
    recoveryRecipients: config.recoveryRecipients,
    keyring: config.keyring,
    limits: {
      ...DEFAULT_LIMITS,
      parallelJobs: config.parallelJobs,
      parallelJobsPerAgent: config.parallelJobsPerAgent,
      unlockSeconds: config.unlockSeconds,
    },
    rebuild: rebuild && (await rebuildWith(rebuild, log)),
    ...(config.olderPolicy ? { policy: { name: 'backup', spec: config.olderPolicy } } : {}),
    metricsFor: config.whoScrapes,
    clock: systemClock,
    log,
  })
  if (server.adminKey) log.info({ file: 'admin.key', home: config.home }, "the first administrator's key was written")
  if (!stop.signal.aborted) await new Promise((resolve) => stop.signal.addEventListener('abort', resolve, { once: true }))
  log.info('stopping')
  await server.close()
}

async function rebuildWith({ identityFile }: RebuildRequest, log: Logger): Promise<Rebuild> {
  if (identityFile === undefined) return {}
  const text = await readFile(identityFile, 'utf8')
  const [identity] = parseIdentityFile(text)
  if (!identity) {
    throw new HoldfastError('invalid_argument', `${identityFile} holds no age identity`, {
      hint: 'Give the file that `holdfast keys new-recovery` printed.',
    })
  }
  const verifyingKey = verifyingKeyOfIdentityFile(text)
  if (!verifyingKey) log.warn({ file: identityFile }, 'origin not verified: the recovery file carries no verifying key')
  return { identity, verifyingKey }
}

try {
  await serverCommand(SERVER_VERSION, serve).parseAsync()
} catch (error) {
  const failure = asHoldfastError(error)
  process.stderr.write(`holdfast: ${failure.message}\n${failure.hint ? `  ${failure.hint}\n` : ''}`)
  if (failure.code === 'internal' && failure.cause instanceof Error) process.stderr.write(`${failure.cause.stack}\n`)
  process.exitCode = exitStatusOf(failure.code)
}
