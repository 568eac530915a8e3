import { Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client'
import type { Clock } from '../../shared/clock.ts'
import type { Catalog } from '../catalog/catalog.ts'
import { connectedAgents } from '../catalog/identity-sessions.ts'
import * as figures from '../catalog/metrics-figures.ts'
import { agentsInUse, unfinishedJobs } from '../catalog/standing.ts'
import { BACKUP_TYPES } from '../domain/job-spec.ts'
import { DURATION_BOUNDS, durationMetric } from './durations.ts'

/** States in which a job ends, and so the values of `status`. */
export const ENDED = ['succeeded', 'failed', 'cancelled'] as const
const RATE_DAYS = 30

export interface Metrics {
  /** The text exposition format. Scrapes at the same time share one reading of the catalog. */
  read(): Promise<{ contentType: string; body: string }>
}

/**
 * Everything but the process's own figures is counted in the catalog at each scrape. Every type and status is there from the
 * start at 0: a counter that appears with its first failure has no step that an alert could see.
 */
export function createMetrics(options: { catalog: Catalog; clock: Clock; version: string; deadAfterMs: number }): Metrics {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry })
  const update = define(registry, options)
  let underWay: Promise<string> | null = null
  const scrape = async () => {
    try {
      await update()
      return await registry.metrics()
    } finally {
      underWay = null
    }
  }
  return {
    async read() {
      underWay ??= scrape()
      return { contentType: registry.contentType, body: await underWay }
    },
  }
}

function define(registry: Registry, options: { catalog: Catalog; clock: Clock; version: string; deadAfterMs: number }) {
  const { db } = options.catalog
  const parts = [backupFigures(registry), restoreFigures(registry), fleetFigures(registry, options), sourceFigures(registry)]
  return async () => {
    const now = options.clock.now()
    for (const part of parts) await part(db, now)
  }
}

type Db = Catalog['db']
type Update = (db: Db, now: Date) => Promise<void>

function backupFigures(registry: Registry): Update {
  const registers = [registry]
  const operations = new Counter({
    name: 'backup_operations_total',
    help: 'Backups that ended, by type and status.',
    labelNames: ['type', 'status'],
    registers,
  })
  const size = new Gauge({ name: 'backup_size_bytes', help: 'What the last good backup read.', labelNames: ['type'], registers })
  const rate = new Gauge({
    name: 'backup_success_rate',
    help: `Share of the backups of the last ${RATE_DAYS} days that succeeded; not a number while there was none.`,
    labelNames: ['type'],
    registers,
  })
  const last = new Gauge({
    name: 'backup_last_success_timestamp',
    help: 'When the last good backup was ready, in seconds since 1970; 0 while there is none.',
    labelNames: ['type'],
    registers,
  })
  const durations = durationMetric(registry, 'backup_duration_seconds', 'How long backups that succeeded took.')
  return async (db, now) => {
    operations.reset()
    for (const type of BACKUP_TYPES) {
      for (const status of ENDED) operations.inc({ type, status }, 0)
      size.set({ type }, 0)
      last.set({ type }, 0)
      rate.set({ type }, Number.NaN)
    }
    for (const { type, status, jobs } of await figures.backupsEnded(db)) operations.inc({ type, status }, jobs)
    for (const { type, finishedSeconds, sizeBytes } of await figures.lastGoodByType(db)) {
      last.set({ type }, finishedSeconds)
      size.set({ type }, sizeBytes)
    }
    const since = new Date(now.getTime() - RATE_DAYS * 86_400_000)
    for (const row of await figures.successRates(db, since)) rate.set({ type: row.type }, row.rate)
    const found = new Map((await figures.backupDurations(db, DURATION_BOUNDS)).map((row) => [row.type, row]))
    durations.set(BACKUP_TYPES.map((type) => ({ labels: { type }, durations: found.get(type) ?? NOTHING })))
  }
}

const NOTHING: figures.Durations = { count: 0, sumSeconds: 0, buckets: [] }

function restoreFigures(registry: Registry): Update {
  const operations = new Counter({
    name: 'restore_operations_total',
    help: 'Restores that ended, by status; plans are left out.',
    labelNames: ['status'],
    registers: [registry],
  })
  const durations = durationMetric(registry, 'restore_duration_seconds', 'How long restores that succeeded took.')
  return async (db) => {
    operations.reset()
    for (const status of ENDED) operations.inc({ status }, 0)
    for (const { status, jobs } of await figures.restoresEnded(db)) operations.inc({ status }, jobs)
    durations.set([{ labels: {}, durations: await figures.restoreDurations(db, DURATION_BOUNDS) }])
  }
}

function fleetFigures(registry: Registry, options: { version: string; deadAfterMs: number }): Update {
  const gauge = (name: string, help: string) => new Gauge({ name, help, registers: [registry] })
  const agents = gauge('holdfast_agents', 'Agents that may connect.')
  const connected = gauge('holdfast_agents_connected', 'Agents that have a stream to any control plane of this catalog.')
  const queued = gauge('holdfast_jobs_queued', 'Jobs that wait.')
  const running = gauge('holdfast_jobs_running', 'Jobs that are under way.')
  const build = new Gauge({ name: 'holdfast_build_info', help: 'Always 1.', labelNames: ['version'], registers: [registry] })
  build.set({ version: options.version }, 1)
  return async (db) => {
    agents.set(await agentsInUse(db))
    connected.set((await connectedAgents(db, options.deadAfterMs)).size)
    const jobs = await unfinishedJobs(db)
    queued.set(jobs.queued)
    running.set(jobs.running)
  }
}

function sourceFigures(registry: Registry): Update {
  const gauge = (name: string, help: string) => new Gauge({ name, help, labelNames: ['source', 'engine'], registers: [registry] })
  const age = gauge(
    'holdfast_source_backup_age_seconds',
    'Age of the last good backup of the whole source; since the source is known while there is none.',
  )
  const last = gauge('holdfast_source_last_success_timestamp', 'When it was made, in seconds since 1970; 0 while there is none.')
  const tested = gauge('holdfast_source_test_restore_timestamp', 'When one of its backups was last test-restored; 0 for never.')
  return async (db, now) => {
    for (const one of [age, last, tested]) one.reset()
    for (const { source, engine, ...found } of await figures.sourceAges(db)) {
      const since = found.lastGoodSeconds ?? found.createdSeconds
      age.set({ source, engine }, Math.max(0, now.getTime() / 1000 - since))
      last.set({ source, engine }, found.lastGoodSeconds ?? 0)
      tested.set({ source, engine }, found.testRestoredSeconds ?? 0)
    }
  }
}
