import { createHash, X509Certificate } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import path from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { writeDurably } from '../../shared/durable-file.ts'
import { asHoldfastError, HoldfastError } from '../../shared/errors.ts'
import { randomBase32 } from '../../shared/ids.ts'
import { portError } from '../../shared/port-error.ts'
import { requireZstd } from '../../shared/repository/zstd-check.ts'
import { Secret } from '../../shared/secret.ts'
import { leaveSpareMemory } from '../../shared/spare-memory.ts'
import type { LocalSigner } from '../../shared/storage/local/address.ts'
import type { Caller, Operations } from '../api/operations.ts'
import { createApi } from '../api/server.ts'
import { auditTrail } from '../catalog/audit.ts'
import { idempotencyStore } from '../catalog/idempotency.ts'
import { keepSelfBackup } from '../catalog/keep-self-backup.ts'
import { type Catalog, openCatalog } from '../catalog/open.ts'
import { listPolicies, listTargets, putPolicy } from '../catalog/policies.ts'
import { isFinished } from '../domain/job.ts'
import { policySchema } from '../domain/policy.ts'
import { type Fleet, openFleet } from '../fleet/authority.ts'
import { type FleetServers, startFleetServers } from '../fleet/servers.ts'
import { openKeyring } from '../keys/keyring/keyring.ts'
import { createMetrics } from '../metrics/metrics.ts'
import { type LocalServer, startLocalServer } from '../storage/local-server.ts'
import { Targets } from '../storage/targets.ts'
import { INSTANCE_DEAD_MS } from '../usecases/agent-operations.ts'
import { ensureAdminKey, keyRing } from '../usecases/api-keys.ts'
import type { ControlPlane } from '../usecases/control-plane.ts'
import { AgentSessions } from '../usecases/handle-session.ts'
import { JobNews } from '../usecases/job-events.ts'
import { objectService } from '../usecases/object-service.ts'
import { confirm } from '../usecases/receive-report.ts'
import { WorkLoop } from '../usecases/work-loop.ts'
import { SERVER_VERSION } from '../version.ts'
import { startBackground } from './background.ts'
import { operationsOf } from './operations.ts'
import type { ServerOptions } from './options.ts'
import { finishRebuild, openForRebuild, publishedFleet, selfBackupFolder } from './rebuild.ts'

export interface RunningServer {
  readonly apiUrl: string
  readonly ports: { readonly api: number; readonly agents: number; readonly enrolment: number; readonly objects: number | null }
  readonly fleet: Fleet
  /** Given once: the first administrator's key, where none was usable. It is in admin.key of the home, too. */
  readonly adminKey: Secret | null
  /** What the routes call, for a program that has the server in its own process. */
  readonly operations: Operations
  /** An administrator for it. */
  readonly operator: Caller
  close(): Promise<void>
}

/** What is closed at the end, the newest first; also when a start fails half way. */
class Closers {
  readonly #closers: Array<() => Promise<void>> = []

  add(close: () => Promise<void>): void {
    this.#closers.unshift(close)
  }

  async close(): Promise<void> {
    for (const close of this.#closers.splice(0)) await close()
  }
}

/** One control plane: catalog, fleet, listeners, work loop, API. Throws `port_taken`, `catalog_*`, `invalid_config` and closes what it had opened. */
export async function startServer(options: ServerOptions): Promise<RunningServer> {
  const closers = new Closers()
  try {
    return await start(options, closers)
  } catch (error) {
    await closers.close()
    throw error
  }
}

async function start(options: ServerOptions, closers: Closers): Promise<RunningServer> {
  const { clock, log } = options
  await requireZstd()
  await mkdir(options.home, { recursive: true, mode: 0o700 })
  const { rebuild } = options
  const catalog = rebuild ? await openForRebuild(options) : await openCatalog(options.catalog)
  closers.add(() => catalog.close())
  const keyring = await openKeyring(options.keyring.path, { create: !options.keyring.shared, local: !options.keyring.shared })
  const fleet = await openFleet(catalog, keyring, {
    dataFolder: options.home,
    recoveryRecipients: options.recoveryRecipients,
    rebuildFrom: rebuild && (await publishedFleet(options, rebuild)),
    clock,
  })
  const audit = auditTrail(catalog, clock)

  const place: { servers?: FleetServers; objects?: LocalServer; loop?: WorkLoop } = {}
  const signer = localSigner(options, fleet, place)
  const targets = new Targets({ catalog, clock, signer })
  closers.add(() => targets.close())
  const cp = controlPlane(options, { catalog, fleet, targets, audit, place })
  const sessions = new AgentSessions(cp)

  place.servers = await startFleetServers({
    catalog,
    fleet,
    clock,
    log,
    audit,
    instanceId: cp.instanceId,
    serverVersion: SERVER_VERSION,
    listen: options.listen,
    hosts: options.hosts,
    settings: options.fleetSettings,
    handler: sessions,
    objects: objectService(cp, (job) => place.loop?.finish(job)),
  })
  const { servers } = place as { servers: FleetServers }
  closers.add(() => servers.close())
  for (const [name, config] of Object.entries(options.targets)) await targets.configure(name, config)
  await serveLocal(options, { targets, servers, fleet, place, closers })
  await publishFleet(cp, fleet)
  if (rebuild) await finishRebuild(options, { catalog, fleet, targets })
  await ensurePolicy(catalog, options)

  const news = new JobNews()
  await news.start(cp)
  closers.add(() => news.stop())
  place.loop = new WorkLoop(cp, sessions, () => servers.sessions.all())
  const { loop } = place as { loop: WorkLoop }
  loop.start()
  closers.add(() => loop.stop())
  const background = startBackground(cp, options.limits.graceSeconds, () => publishFleet(cp, fleet))
  closers.add(() => background.stop())
  if (catalog.kind === 'embedded') {
    const kept = await keepSelfBackup(catalog, selfBackupFolder(options.home), { clock, log })
    closers.add(() => kept.stop())
  }

  const adminKey = await ensureAdminKey({ catalog, clock })
  if (adminKey) await writeDurably(path.join(options.home, 'admin.key'), `${adminKey.reveal()}\n`)
  const operations = operationsOf(cp, { news, targets, agentsServer: () => `${options.hosts[0]}:${servers.agentsPort}` })
  const apiUrl = await listenApi(options, { cp, operations, audit, closers })
  await writeDurably(path.join(options.home, 'server.json'), `${JSON.stringify({ url: apiUrl })}\n`)
  log.info({ api: apiUrl, agents: servers.agentsPort, enrolment: servers.enrolmentPort }, 'control plane started')
  // most of what a start has touched is never touched again
  leaveSpareMemory()
  return {
    apiUrl,
    ports: {
      api: Number(new URL(apiUrl).port),
      agents: servers.agentsPort,
      enrolment: servers.enrolmentPort,
      objects: place.objects?.port ?? null,
    },
    fleet,
    adminKey,
    operations,
    operator: { keyId: 'local', keyName: 'local', role: 'admin', sources: [] },
    close: () => closers.close(),
  }
}

/** Every target has the fleet's name and sealed keys. One that is away must not keep the control plane from the others. */
async function publishFleet(cp: ControlPlane, fleet: Fleet): Promise<void> {
  for (const { name } of await listTargets(cp.catalog.db)) {
    try {
      await fleet.publish(await cp.target(name))
    } catch (error) {
      const failure = asHoldfastError(error)
      if (!failure.retry) throw failure
      cp.log.warn({ err: failure, target: name }, 'the fleet’s keys could not be put into the target yet')
    }
  }
}

/** Written only where it differs: a revision is a change. */
async function ensurePolicy(catalog: Catalog, { policy, clock }: ServerOptions): Promise<void> {
  if (!policy) return
  const there = (await listPolicies(catalog.db)).find((row) => row.name === policy.name)
  if (there && isDeepStrictEqual(policySchema.parse(there.spec), policy.spec)) return
  await putPolicy(catalog.db, policy.name, { ...policy.spec }, clock.now())
}

interface Place {
  servers?: FleetServers
  objects?: LocalServer
  loop?: WorkLoop
}

/** Where the local target's objects are served is known once its listener is: a port of 0 is any free one. */
function localSigner(options: ServerOptions, fleet: Fleet, place: Place): LocalSigner {
  return {
    get baseUrl() {
      return `https://${options.hosts[0]}:${place.objects?.port ?? options.listen.objects.port}`
    },
    get socket() {
      return place.objects?.socket ?? undefined
    },
    key: fleet.addressKey,
    serverCertificateSha256: () => {
      const certificate = place.servers?.certificate()
      if (!certificate) throw new HoldfastError('internal', 'the listeners have not started')
      return createHash('sha256').update(new X509Certificate(certificate.pem).raw).digest()
    },
    clock: options.clock,
  }
}

function controlPlane(
  options: ServerOptions,
  of: { catalog: Catalog; fleet: Fleet; targets: Targets; audit: ControlPlane['audit']; place: Place },
): ControlPlane {
  const { catalog, fleet, targets, audit, place } = of
  return {
    instanceId: `c${randomBase32(15)}`,
    catalog,
    clock: options.clock,
    log: options.log,
    fleet,
    settings: {
      ...options.limits,
      defaultTarget: options.defaultTarget,
      leaseSeconds: options.fleetSettings?.leaseSeconds ?? 60,
    },
    target: (name) => targets.get(name),
    audit,
    wake: () => place.loop?.wake(),
    finished: (job) => {
      const session = place.servers?.sessions.get(job.agentId)
      if (!session || !isFinished(job.state)) return
      confirm(session, { jobId: job.id, attempt: job.attempt }, true).catch((error: unknown) =>
        options.log.info({ err: error, job: job.id }, 'the agent will send its result again'),
      )
    },
  }
}

async function serveLocal(
  options: ServerOptions,
  of: { targets: Targets; servers: FleetServers; fleet: Fleet; place: Place; closers: Closers },
): Promise<void> {
  const local = await of.targets.local(Object.keys(options.targets))
  if (local.length === 0) return
  const certificate = of.servers.certificate()
  const server = await startLocalServer({
    ...options.listen.objects,
    socketFolder: options.home,
    cert: certificate.chainPem,
    key: new Secret(certificate.privateKeyPem.reveal().toString()),
    targets: local,
    signingKey: of.fleet.addressKey,
    clock: options.clock,
    log: options.log,
  })
  of.place.objects = server
  of.closers.add(() => server.close())
}

async function listenApi(
  options: ServerOptions,
  of: { cp: ControlPlane; operations: Operations; audit: ControlPlane['audit']; closers: Closers },
): Promise<string> {
  const { cp } = of
  const deps = { catalog: cp.catalog, clock: cp.clock }
  const metrics = createMetrics({ ...deps, version: SERVER_VERSION, deadAfterMs: INSTANCE_DEAD_MS })
  const api = await createApi({
    operations: of.operations,
    keys: keyRing(deps),
    audit: of.audit,
    idempotency: idempotencyStore(cp.catalog, cp.clock),
    clock: cp.clock,
    log: options.log,
    version: SERVER_VERSION,
    ready: async () => {
      await cp.catalog.transaction(async () => undefined)
    },
    metrics: () => metrics.read(),
    whoScrapes: options.metricsFor,
    tls: options.listen.tls,
    access: options.access,
  })
  of.closers.add(() => api.close())
  const { host, port } = options.listen.api
  try {
    return await api.listen({ host, port })
  } catch (cause) {
    throw portError('the API', options.listen.api, '--port', cause)
  }
}
