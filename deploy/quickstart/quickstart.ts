import { existsSync } from 'node:fs'
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import pino from 'pino'
import { recoveryFile } from '../../control-plane/fleet/recovery-identity.ts'
import { DEFAULT_LIMITS } from '../../control-plane/server/options.ts'
import { type RunningServer, startServer } from '../../control-plane/server/start-server.ts'
import { SERVER_VERSION } from '../../control-plane/version.ts'
import { newAgeIdentity, parseIdentityFile, recipientOf } from '../../shared/age/age.ts'
import { systemClock } from '../../shared/clock.ts'
import { writeDurably } from '../../shared/durable-file.ts'
import { HoldfastError } from '../../shared/errors.ts'
import { createLogger } from '../../shared/log.ts'
import type { Secret } from '../../shared/secret.ts'
import { AgentProcess } from './agent-process.ts'
import { foundHere, joinAgent } from './join-agent.ts'
import { homeNeeded, print, row, shownPath } from './print.ts'
import { makeSample } from './sample.ts'
import { Tour } from './tour.ts'

export interface QuickstartOptions {
  readonly once: boolean
  readonly home: string
  readonly apiPort: number
  readonly agentPort: number
  readonly hostName: string
  readonly stop: AbortSignal
  readonly environment: NodeJS.ProcessEnv
}

/** Starts all of it, shows that it works, and runs until told to stop. False when something did not hold, or with `once` was not shown. */
export async function quickstart(options: QuickstartOptions): Promise<boolean> {
  await makeHome(options.home)
  const recovery = await recoveryIdentity(options.home)
  const server = await startServer(serverOptions(options, recovery.recipient))
  const agent = new AgentProcess(path.join(options.home, 'agent'), options.environment)
  try {
    await keepRecovery(options.home, recovery, server)
    banner(options, server)
    const held = await untilStopped(options.stop, tour(options, server, agent))
    if (held === 'stopped') return !options.once
    if (!options.once) await Promise.race([aborted(options.stop), agent.failed()])
    return held
  } finally {
    await agent.stop()
    await server.close()
  }
}

async function makeHome(home: string): Promise<void> {
  try {
    const made = await mkdir(home, { recursive: true, mode: 0o700 })
    // it holds keys: a `git add .` of a folder around it must not take them along
    if (made !== undefined) await writeFile(path.join(home, '.gitignore'), '*\n')
  } catch (cause) {
    const why = (cause as NodeJS.ErrnoException).code === 'EEXIST' ? 'is no folder' : 'cannot be made'
    throw new HoldfastError('invalid_argument', `${home} ${why}`, {
      hint: 'Choose a folder that you may write to with --home.',
      cause,
    })
  }
}

async function tour(options: QuickstartOptions, server: RunningServer, agent: AgentProcess): Promise<boolean> {
  const sample = await makeSample(path.join(options.home, 'sample'))
  const joined = await joinAgent({ ...options, server, agent, sample })
  row(true, `agent ${joined.name}`, `enrolled, certificate renews in ${joined.renewsInHours} h`)
  const guide = new Tour({ server, host: joined.name, sample, stop: options.stop })
  await guide.showSources()
  for (const line of await foundHere(agent, options.home)) row(null, 'found here too', line)
  await guide.finishEarlier()
  const unprotected = await guide.unprotected()
  const held = unprotected.length > 0 || options.once ? await guide.backUpAndProve(unprotected) : await guide.showBackups()
  print(
    `  API and docs ${server.apiUrl}/docs    key ${await shownKey(options.home)}    recovery key ${shownPath(options.home, 'recovery.key')}: keep it elsewhere`,
  )
  print(`  Next: ${homeNeeded(options.home, 'operator')}npx --no-install holdfast list`)
  return held
}

/** Enough of the key to know it by; the whole is in the file. */
async function shownKey(home: string): Promise<string> {
  const key = (await readFile(path.join(home, 'admin.key'), 'utf8')).trim()
  return `${key.slice(0, 8)}... (${shownPath(home, 'admin.key')})`
}

function serverOptions(options: QuickstartOptions, recipient: string): Parameters<typeof startServer>[0] {
  const on = (port: number) => ({ host: '127.0.0.1', port })
  const { home, agentPort } = options
  return {
    home,
    catalog: { kind: 'embedded', folder: path.join(home, 'catalog') },
    listen: { api: on(options.apiPort), agents: on(agentPort), enrolment: on(agentPort + 1), objects: on(agentPort + 2) },
    hosts: ['127.0.0.1', 'localhost'],
    targets: { primary: { kind: 'local', path: path.join(home, 'store') } },
    defaultTarget: 'primary',
    recoveryRecipients: [recipient],
    keyring: { path: path.join(home, 'keyring'), shared: false },
    limits: DEFAULT_LIMITS,
    metricsFor: 'anyone',
    clock: systemClock,
    log: createLogger({
      level: 'info',
      destination: pino.destination({ dest: path.join(home, 'server.log'), mode: 0o600, sync: true }),
    }),
  }
}

interface Recovery {
  readonly recipient: string
  /** Made just now; to be kept once the fleet has a verifying key. */
  readonly identity: Secret | null
}

/** The identity exists before its fleet does, and its file is written when the fleet's verifying key is known. */
async function recoveryIdentity(home: string): Promise<Recovery> {
  const file = path.join(home, 'recovery.key')
  const draft = path.join(home, 'recovery.key.new')
  const kept = existsSync(file) ? file : existsSync(draft) ? draft : null
  if (kept) {
    const [identity] = parseIdentityFile(await readFile(kept, 'utf8'))
    if (identity) return { recipient: await recipientOf(identity), identity: kept === draft ? identity : null }
  }
  const identity = await newAgeIdentity()
  await writeDurably(draft, `${identity.reveal()}\n`)
  return { recipient: await recipientOf(identity), identity }
}

async function keepRecovery(home: string, recovery: Recovery, server: RunningServer): Promise<void> {
  const { identity, recipient } = recovery
  if (!identity) return
  const text = recoveryFile({ identity, recipient, fleet: server.fleet, now: systemClock.now() })
  await writeDurably(path.join(home, 'recovery.key'), text.reveal())
  await rm(path.join(home, 'recovery.key.new'), { force: true })
}

function banner(options: QuickstartOptions, server: RunningServer): void {
  const store = `${shownPath(options.home, 'store')} (local disk)`
  print(`  holdfast ${SERVER_VERSION}`.padEnd(51) + `catalog: embedded    storage: ${store}`)
  row(true, 'control plane', `${server.apiUrl}    agents: 127.0.0.1:${server.ports.agents} (mutual TLS)`)
}

/** What fails because of the stop is no failure. */
function untilStopped<T>(stop: AbortSignal, work: Promise<T>): Promise<T | 'stopped'> {
  const settled = work.catch((error: unknown) => {
    if (stop.aborted) return 'stopped' as const
    throw error
  })
  return Promise.race([settled, aborted(stop)])
}

function aborted(signal: AbortSignal): Promise<'stopped'> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve('stopped')
    signal.addEventListener('abort', () => resolve('stopped'), { once: true })
  })
}
