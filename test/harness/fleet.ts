import { mkdir } from 'node:fs/promises'
import path from 'node:path'
import { type EnrollOptions, enroll } from '../../agent/link/enroll.ts'
import type { AgentIdentity } from '../../agent/link/identity.ts'
import { createLink, type Link, type LinkOptions } from '../../agent/link/link.ts'
import type { AuditEvent } from '../../control-plane/domain/audit-chain.ts'
import { type Fleet, openFleet } from '../../control-plane/fleet/authority.ts'
import type { AgentMessage, Session, SessionHandler } from '../../control-plane/fleet/live-session.ts'
import { type FleetServers, type FleetServersOptions, startFleetServers } from '../../control-plane/fleet/servers.ts'
import { openKeyring } from '../../control-plane/keys/keyring/keyring.ts'
import { inviteAgent } from '../../control-plane/usecases/invite-agent.ts'
import { newAgeIdentity, recipientOf } from '../../shared/age/age.ts'
import { type Clock, systemClock } from '../../shared/clock.ts'
import { HoldfastError } from '../../shared/errors.ts'
import type { Hello } from '../../shared/generated/holdfast/agent/v1/session.ts'
import { randomBase32 } from '../../shared/ids.ts'
import { createLogger, type Logger } from '../../shared/log.ts'
import type { Secret } from '../../shared/secret.ts'
import { openTestCatalog, type TestCatalog } from './catalogs.ts'
import { type ThrowAwayFolder, throwAwayFolder } from './folders.ts'

/** A handler that keeps what it was told, in order. */
export class RecordingHandler implements SessionHandler {
  readonly connected: Array<{ session: Session; hello: Hello }> = []
  readonly messages: Array<{ session: Session; message: AgentMessage }> = []
  readonly closed: Session[] = []

  async onConnected(session: Session, hello: Hello): Promise<void> {
    this.connected.push({ session, hello })
  }

  async onMessage(session: Session, message: AgentMessage): Promise<void> {
    this.messages.push({ session, message })
  }

  async onClosed(session: Session): Promise<void> {
    this.closed.push(session)
  }
}

/** Log lines of one program, parsed. */
export function recordingLog(): { log: Logger; lines: Array<Record<string, unknown>> } {
  const lines: Array<Record<string, unknown>> = []
  const destination = { write: (line: string) => void lines.push(JSON.parse(line) as Record<string, unknown>) }
  return { log: createLogger({ level: 'debug', destination }), lines }
}

const refused = async (): Promise<never> => {
  throw new HoldfastError('attempt_fenced', 'this fleet has no jobs')
}
export const noObjects: FleetServersOptions['objects'] = {
  signPuts: refused,
  signGets: refused,
  askUnlock: refused,
  openBackups: refused,
  commitBackup: refused,
}

export interface TestPlane {
  readonly servers: FleetServers
  readonly handler: RecordingHandler
  readonly instanceId: string
  readonly lines: Array<Record<string, unknown>>
  /** host:port of the agents' and of the enrolment listener. */
  readonly agents: string
  readonly enrolment: string
}

export type PlaneOptions = Partial<
  Pick<FleetServersOptions, 'settings' | 'handler' | 'objects' | 'policy' | 'catalog' | 'listen'>
>

/**
 * An authority, an embedded catalog and any number of control planes on it, on free ports of 127.0.0.1. `clock` is the control
 * planes'; agents bring their own.
 */
export class TestFleet {
  readonly audit: AuditEvent[] = []
  readonly clock: Clock
  readonly catalogs: TestCatalog
  readonly folder: ThrowAwayFolder
  readonly fleet: Fleet
  readonly recovery: Secret
  readonly #planes: TestPlane[] = []
  readonly #links: Link[] = []

  private constructor(parts: { clock: Clock; catalogs: TestCatalog; folder: ThrowAwayFolder; fleet: Fleet; recovery: Secret }) {
    this.clock = parts.clock
    this.catalogs = parts.catalogs
    this.folder = parts.folder
    this.fleet = parts.fleet
    this.recovery = parts.recovery
  }

  static async start(clock: Clock = systemClock): Promise<TestFleet> {
    const catalogs = await openTestCatalog()
    const folder = await throwAwayFolder()
    const recovery = await newAgeIdentity()
    const keyring = await openKeyring(path.join(folder.path, 'keyring'), { create: true })
    const recoveryRecipients = [await recipientOf(recovery)]
    const fleet = await openFleet(catalogs.catalog, keyring, { dataFolder: folder.path, recoveryRecipients, clock })
    return new TestFleet({ clock, catalogs, folder, fleet, recovery })
  }

  get catalog() {
    return this.catalogs.catalog
  }

  async plane(options: PlaneOptions = {}): Promise<TestPlane> {
    const handler = new RecordingHandler()
    const instanceId = `i${randomBase32(10)}`
    const { log, lines } = recordingLog()
    const servers = await startFleetServers({
      catalog: this.catalog,
      fleet: this.fleet,
      clock: this.clock,
      log,
      audit: async (event) => void this.audit.push(event),
      instanceId,
      serverVersion: '0.0.0-test',
      listen: { agents: { host: '127.0.0.1', port: 0 }, enrolment: { host: '127.0.0.1', port: 0 } },
      hosts: ['127.0.0.1'],
      handler,
      objects: noObjects,
      ...options,
    })
    const agents = `127.0.0.1:${servers.agentsPort}`
    const plane = { servers, handler, instanceId, lines, agents, enrolment: `127.0.0.1:${servers.enrolmentPort}` }
    this.#planes.push(plane)
    return plane
  }

  async token(name: string, options: { replace?: boolean; validSeconds?: number } = {}): Promise<Secret> {
    return (await inviteAgent(this, { name, createdBy: 'test', ...options })).token
  }

  /** An empty home folder for an agent. */
  async home(name: string): Promise<string> {
    const home = path.join(this.folder.path, 'homes', name)
    await mkdir(home, { recursive: true, mode: 0o700 })
    return home
  }

  async enrolled(
    plane: TestPlane,
    name: string,
    options: Partial<EnrollOptions> & { folder?: string; replace?: boolean } = {},
  ): Promise<{ home: string; identity: AgentIdentity }> {
    const home = options.home ?? (await this.home(options.folder ?? name))
    const token = options.token ?? (await this.token(name, { replace: options.replace }))
    const identity = await enroll({
      server: plane.agents,
      enrolmentServer: plane.enrolment,
      pin: this.fleet.pin,
      agentVersion: '0.0.0-test',
      clock: systemClock,
      log: recordingLog().log,
      ...options,
      token,
      home,
    })
    return { home, identity }
  }

  async link(home: string, options: Partial<LinkOptions> = {}): Promise<Link> {
    const link = await createLink({
      home,
      clock: systemClock,
      log: recordingLog().log,
      agentVersion: '0.0.0-test',
      describe: () => ({ sources: [], journal: [], labels: {} }),
      onCommand: () => undefined,
      ...options,
    })
    this.#links.push(link)
    return link
  }

  /** Links first, so that they do not come back while the control planes stop. */
  async dispose(): Promise<void> {
    await Promise.all(this.#links.map((link) => link.close()))
    await Promise.all(this.#planes.map((plane) => plane.servers.close()))
    await this.catalogs.dispose()
    await this.folder.remove()
  }
}
