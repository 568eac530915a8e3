import { readFile } from 'node:fs/promises'
import type { CompatServiceDefinition } from 'nice-grpc'
import { createServer, type Server } from 'nice-grpc'
import { ServerReflection, ServerReflectionService } from 'nice-grpc-server-reflection'
import type { Clock } from '../../shared/clock.ts'
import { HealthDefinition } from '../../shared/generated/grpc/health/v1/health.ts'
import { EnrolmentServiceDefinition, IdentityServiceDefinition } from '../../shared/generated/holdfast/agent/v1/enrolment.ts'
import { ObjectServiceDefinition, type ObjectServiceImplementation } from '../../shared/generated/holdfast/agent/v1/objects.ts'
import { SessionServiceDefinition } from '../../shared/generated/holdfast/agent/v1/session.ts'
import { errorsToStatus } from '../../shared/grpc-errors.ts'
import type { Logger } from '../../shared/log.ts'
import { portError } from '../../shared/port-error.ts'
import { MAX_ENROLMENT_BYTES, MAX_MESSAGE_BYTES } from '../../shared/protocol.ts'
import type { Catalog } from '../catalog/catalog.ts'
import type { Audit } from './audit.ts'
import type { Fleet, ServerCertificate } from './authority.ts'
import { grpcWordsTo } from './grpc-words.ts'
import { type AgentContext, type GuardContext, guard } from './guard.ts'
import { Health } from './health.ts'
import { enrolmentService, identityService } from './identity-services.ts'
import { ServerIdentity } from './listeners.ts'
import type { SessionHandler } from './live-session.ts'
import { LiveSessions } from './live-sessions.ts'
import { peerCertificateInterceptor } from './peer.ts'
import { RPC_POLICY, type RpcRow, rowOf } from './rpc-policy.ts'
import { SessionKeeper } from './session-keeper.ts'
import { SessionService } from './session-service.ts'
import { DEFAULT_SETTINGS, type FleetSettings } from './settings.ts'

export interface ListenAddress {
  readonly host: string
  /** 0: any free one. */
  readonly port: number
}

export interface FleetServersOptions {
  readonly catalog: Catalog
  readonly fleet: Fleet
  readonly clock: Clock
  readonly log: Logger
  readonly audit: Audit
  /** Of this start of this control plane, new each time: streams are held by it. */
  readonly instanceId: string
  readonly serverVersion: string
  readonly listen: { readonly agents: ListenAddress; readonly enrolment: ListenAddress }
  /** Names and addresses in the listeners' certificate, beside the name that every control plane has. */
  readonly hosts: readonly string[]
  /** host:port that agents are told to use; empty: where they enrolled, one port below. */
  readonly agentsAddress?: string
  readonly settings?: Partial<FleetSettings>
  readonly handler: SessionHandler
  readonly objects: ObjectServiceImplementation<AgentContext>
  /** Only for tests of the rule that every RPC has a row. */
  readonly policy?: Readonly<Record<string, RpcRow>>
}

export interface FleetServers {
  readonly agentsPort: number
  readonly enrolmentPort: number
  /** What the listeners show; the local target's HTTPS listener uses it too. Changes when it is renewed. */
  readonly certificate: () => ServerCertificate
  readonly sessions: Pick<LiveSessions, 'get' | 'all' | 'size'>
  /** Looks at once at which streams must end, in place of within two seconds. */
  checkSessions(): Promise<void>
  /** Tells agents to go elsewhere, ends what is in flight and frees the ports. Once. */
  close(): Promise<void>
}

/** How long calls in flight may take when the control plane stops. */
const GRACE_MS = 3000

export async function startFleetServers(options: FleetServersOptions): Promise<FleetServers> {
  const { catalog, clock, log, fleet } = options
  const settings = { ...DEFAULT_SETTINGS, ...options.settings }
  const live = new LiveSessions()
  grpcWordsTo(log)
  const identityDeps = { catalog, fleet, clock, log, audit: options.audit, settings }
  const sessionDeps = { ...options, settings, live }
  const keeper = new SessionKeeper(sessionDeps)
  const descriptors = await readFile(new URL('../../shared/generated/descriptors.binpb', import.meta.url))
  const agents = new Listener('agents', options, MAX_MESSAGE_BYTES, descriptors)
  agents.add(IdentityServiceDefinition, identityService(identityDeps))
  agents.add(SessionServiceDefinition, new SessionService(sessionDeps))
  agents.add(ObjectServiceDefinition, options.objects)
  const enrolment = new Listener('enrolment', options, MAX_ENROLMENT_BYTES, descriptors)
  enrolment.add(EnrolmentServiceDefinition, enrolmentService(identityDeps, options.agentsAddress ?? ''))
  const identity = await ServerIdentity.start(fleet, options.hosts, clock, log)
  const stop = async () => {
    identity.stop()
    await Promise.all([agents.close(clock), enrolment.close(clock)])
  }
  try {
    await keeper.start()
    const agentsPort = await agents.listen(options.listen.agents, identity.credentials(true))
    const enrolmentPort = await enrolment.listen(options.listen.enrolment, identity.credentials(false))
    return {
      agentsPort,
      enrolmentPort,
      certificate: () => identity.certificate,
      sessions: live,
      checkSessions: () => keeper.look(),
      close: async () => {
        live.endAll('the control plane is stopping', true)
        await stop()
        await keeper.stop()
      },
    }
  } catch (error) {
    await stop()
    await keeper.stop()
    throw error
  }
}

/** One port: guarded services, health and reflection. */
class Listener {
  readonly #what: string
  readonly #server: Server<GuardContext>
  readonly #policy: Readonly<Record<string, RpcRow>>
  readonly #names: string[] = []
  readonly #descriptors: Buffer
  #health: Health | undefined

  constructor(what: string, options: FleetServersOptions, maxBytes: number, descriptors: Buffer) {
    this.#what = what
    this.#policy = options.policy ?? RPC_POLICY
    this.#descriptors = descriptors
    const server = createServer({
      interceptors: [peerCertificateInterceptor],
      'grpc.max_receive_message_length': maxBytes,
      'grpc.max_send_message_length': maxBytes,
      'grpc.max_concurrent_streams': 200,
      'grpc.keepalive_time_ms': 30_000,
      'grpc.keepalive_timeout_ms': 20_000,
    })
    const onInternal = (error: unknown, method: string) => options.log.error({ err: error, method }, 'a call failed inside')
    this.#server = server.use(errorsToStatus(onInternal)).use(guard({ ...options, policy: this.#policy }))
  }

  add<Service extends CompatServiceDefinition>(definition: Service, implementation: object): void {
    for (const path of pathsOf(definition)) rowOf(path, this.#policy)
    const name = (definition as { fullName?: string }).fullName
    if (name) this.#names.push(name)
    this.#server.add(definition, implementation as never)
  }

  async listen(address: ListenAddress, credentials: Parameters<Server['listen']>[1]): Promise<number> {
    this.#health = new Health(this.#names)
    const services = [...this.#names, HealthDefinition.fullName]
    this.add(HealthDefinition, this.#health)
    this.add(ServerReflectionService, ServerReflection(this.#descriptors, services))
    try {
      const host = address.host.includes(':') ? `[${address.host}]` : address.host
      return await this.#server.listen(`${host}:${address.port}`, credentials)
    } catch (cause) {
      throw portError(`the ${this.#what}`, address, '--agent-port or `listen`', cause)
    }
  }

  /** Waits for calls in flight, but not for ever: a stream whose agent has vanished ends with its connection. */
  async close(clock: Clock): Promise<void> {
    this.#health?.stop()
    const timer = new AbortController()
    const late = clock.sleep(GRACE_MS, timer.signal).then(
      () => this.#server.forceShutdown(),
      () => undefined,
    )
    await Promise.race([this.#server.shutdown(), late])
    timer.abort()
    this.#server.forceShutdown()
  }
}

/** `/package.Service/Method` of each method, for both kinds of definition that nice-grpc takes. */
export function pathsOf(definition: CompatServiceDefinition): string[] {
  if ('fullName' in definition && 'methods' in definition) {
    const { fullName, methods } = definition as { fullName: string; methods: Record<string, { name: string }> }
    return Object.values(methods).map((method) => `/${fullName}/${method.name}`)
  }
  return Object.values(definition as Record<string, { path: string }>).map((method) => method.path)
}
