import { watch } from 'node:fs'
import path from 'node:path'
import type { Clock } from '../shared/clock.ts'
import { HoldfastError } from '../shared/errors.ts'
import type { ConnectRequest } from '../shared/generated/holdfast/agent/v1/session.ts'
import type { Logger } from '../shared/log.ts'
import { signFacts } from '../shared/manifest/sign.ts'
import { requireZstd } from '../shared/repository/zstd-check.ts'
import { leaveSpareMemory } from '../shared/spare-memory.ts'
import { loadAgentConfig } from './config/agent-config.ts'
import { type AgentHome, makeHome, stateFolders } from './config/home.ts'
import { compileSources } from './config/sources.ts'
import { Describer } from './jobs/describe.ts'
import { Journal } from './jobs/journal.ts'
import { JobLimits } from './jobs/limits.ts'
import { tryProcessLock } from './jobs/process-lock.ts'
import { Runner } from './jobs/runner.ts'
import { createLink, type Link } from './link/link.ts'
import type { Command } from './link/stream.ts'
import { AGENT_VERSION } from './version.ts'

export interface AgentOptions {
  readonly home: AgentHome
  readonly clock: Clock
  readonly log: Logger
  readonly searchPath: string
  readonly userHome: string
  /** The program of jobs, where the launcher has made one; else jobs start from the sources. */
  readonly jobProgram: string | undefined
}

export interface RunningAgent {
  readonly name: string
  /** Of the processes of jobs at work. */
  processIds(): number[]
  close(): Promise<void>
}

/** The agent's program: its connection, its journal, its jobs. Throws `overlap` when another agent runs in this home. */
export async function startAgent(options: AgentOptions): Promise<RunningAgent> {
  await requireZstd()
  const { home, clock, log } = options
  await makeHome(home)
  const lock = tryProcessLock(path.join(home.state, 'agent.lock'))
  if (!lock) {
    throw new HoldfastError('overlap', `another agent runs in ${home.state}`, {
      hint: 'Stop it first, or give this one a folder of its own with --home.',
    })
  }
  const journal = await Journal.open(stateFolders(home).journal)
  const config = await loadAgentConfig(home)
  let link: Link | undefined
  const send = (message: ConnectRequest): void => void link?.send(message)
  const runner = new Runner({
    ...options,
    journal,
    limits: new JobLimits(clock, log),
    folders: stateFolders(home),
    offlineLimitMs: config.offline_limit_seconds * 1000,
    objects: objectsOf(() => link),
    signFacts: (facts) => {
      const { privateKey, chainPem } = connected(link).identity
      return signFacts(facts, { privateKey, chainPem })
    },
    jobSettings: async () => jobSettings(await loadAgentConfig(home), connected(link)),
    leaseRemainingMs: () => leaseRemainingMs(link, clock),
    send,
  })
  const describer = new Describer({
    ...options,
    sources: async () => compileSources(await loadAgentConfig(home), log),
    tell: (sources) => send({ message: { $case: 'sourcesChanged', value: { sources } } }),
    // the start is over, and every few minutes again: what a job has had us touch
    looked: leaveSpareMemory,
  })
  await runner.recover()
  link = await createLink({
    home: home.state,
    clock,
    log,
    agentVersion: AGENT_VERSION,
    describe: async () => ({
      sources: await describer.sources(),
      journal: await runner.journalEntries(),
      labels: (await loadAgentConfig(home)).labels,
    }),
    onCommand: (command) => onCommand(runner, command),
    onDisconnected: () => runner.disconnected(),
    onConnected: () => {
      runner.connected()
      describer.refresh()
    },
    onHeard: () => runner.heard(),
  })
  describer.start()
  const stopWatching = watchSources(home, log, async () => {
    send({ message: { $case: 'sourcesChanged', value: { sources: await describer.sources() } } })
    describer.refresh()
  })
  return {
    name: link.identity.name,
    processIds: () => runner.processIds(),
    close: async () => {
      stopWatching()
      await describer.close()
      await runner.close()
      await link?.close()
      lock.release()
    },
  }
}

async function onCommand(runner: Runner, command: Command): Promise<void> {
  switch (command.$case) {
    case 'jobCommand':
      return runner.command(command.value)
    case 'cancelJob': {
      const { jobId, attempt, reason } = command.value
      return runner.cancel(jobId, attempt, new HoldfastError('job_cancelled', `cancelled: ${reason}`))
    }
    case 'limits':
      return runner.limit(command.value)
    case 'resultConfirmed':
      return runner.confirmed(command.value.jobId, command.value.attempt, command.value.final)
  }
}

function connected(link: Link | undefined): Link {
  if (link) return link
  throw new HoldfastError('control_plane_unreachable', 'the agent has not connected yet')
}

/** Calls made before the link exists, by jobs that were left over, are answered as if it were away. */
const objectsOf = (link: () => Link | undefined): Link['objects'] => ({
  signPuts: (request, options) => connected(link()).objects.signPuts(request, options),
  signGets: (request, options) => connected(link()).objects.signGets(request, options),
  askUnlock: (request, options) => connected(link()).objects.askUnlock(request, options),
  openBackups: (request, options) => connected(link()).objects.openBackups(request, options),
  commitBackup: (request, options) => connected(link()).objects.commitBackup(request, options),
})

function leaseRemainingMs(link: Link | undefined, clock: Clock): number {
  if (!link) return 0
  return Math.max(0, link.lastHeardMonotonicMs() + link.leaseSeconds * 1000 - clock.monotonicMs())
}

type Config = Awaited<ReturnType<typeof loadAgentConfig>>

function jobSettings(config: Config, { identity }: Link) {
  return {
    agent: {
      name: identity.name,
      fleetId: identity.fleetId,
      verifyingKey: identity.verifyingKey,
      ageIdentity: identity.ageIdentity.reveal(),
      ageRecipient: identity.ageRecipient,
      labels: config.labels,
      restoresFrom: config.restores_from,
      offlineLimitMs: config.offline_limit_seconds * 1000,
      logLevel: config.log_level,
    },
    sources: config.sources,
  }
}

/** Tells of each change of agent.yaml, so that `source add` takes effect without a restart. */
function watchSources(home: AgentHome, log: Logger, changed: () => Promise<void>): () => void {
  const watcher = watch(home.config, (_event, name) => {
    if (name !== 'agent.yaml') return
    changed().catch((error: unknown) => log.error({ err: error }, 'the changed agent.yaml is not usable'))
  })
  watcher.on('error', (error) =>
    log.error({ err: error }, 'agent.yaml is no longer watched: restart the agent after changing it'),
  )
  return () => watcher.close()
}
