import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { stringify } from 'yaml'
import type { AgentView } from '../../control-plane/api/schemas/agents.ts'
import type { JobView } from '../../control-plane/api/schemas/jobs.ts'
import { recoveryFile } from '../../control-plane/fleet/recovery-identity.ts'
import { openKeyring } from '../../control-plane/keys/keyring/keyring.ts'
import { DEFAULT_LIMITS, type ServerOptions } from '../../control-plane/server/options.ts'
import { type RunningServer, startServer } from '../../control-plane/server/start-server.ts'
import { newAgeIdentity, recipientOf } from '../../shared/age/age.ts'
import { type Clock, systemClock } from '../../shared/clock.ts'
import { createLogger } from '../../shared/log.ts'
import { Secret } from '../../shared/secret.ts'
import type { TargetConfig } from '../../shared/storage/config.ts'
import { copyEmptyCatalog } from './catalogs.ts'
import { runCommand, tryCommand } from './commands.ts'
import { type ThrowAwayFolder, throwAwayFolder } from './folders.ts'
import { Operator } from './operator.ts'
import { freePort } from './ports.ts'
import { type StartedProcess, startProcess } from './processes.ts'
import { compiled, jobProgram, startServerProcess, startShiftedServer } from './server-process.ts'
import type { ShiftedClock } from './shifted-clock.ts'
import { waitFor } from './wait.ts'

/**
 * A whole Holdfast for a story: a control plane in this process, on free ports that stay its own, with real gRPC, HTTPS and a real catalog, and agents
 * that are the real program, each a process with a home of its own. `await using` takes all of it down.
 */

const AGENT = fileURLToPath(new URL('../../agent/main.ts', import.meta.url))

export interface HoldfastOptions {
  /** A local folder, `primary`, unless told. */
  readonly targets?: Readonly<Record<string, TargetConfig>>
  /** Beside the local folder. */
  readonly moreTargets?: Readonly<Record<string, TargetConfig>>
  readonly clock?: Clock
  /** Folder of the control plane, where it is not one in our own. */
  readonly home?: string
  readonly catalog?: ServerOptions['catalog']
  readonly limits?: Partial<ServerOptions['limits']>
  readonly fleetSettings?: ServerOptions['fleetSettings']
  readonly logLevel?: string
  readonly access?: ServerOptions['access']
  /** Environment of agents, beside PATH. */
  readonly agentEnv?: Readonly<Record<string, string>>
}

export interface TestAgent {
  readonly name: string
  readonly home: string
  readonly process: StartedProcess
  /** Ends it, as told or at once. */
  stop(signal?: NodeJS.Signals): Promise<void>
  /** Starts it again in its home and waits until it is connected. */
  start(): Promise<void>
  /** Process ids of the jobs at work. */
  jobProcesses(): Promise<number[]>
}

export class TestHoldfast implements AsyncDisposable {
  readonly folder: ThrowAwayFolder
  readonly options: HoldfastOptions
  readonly recovery: { readonly recipient: string; readonly identity: string }
  server!: RunningServer
  operator!: Operator
  readonly agents = new Map<string, TestAgent>()
  /** The control plane runs as a process of its own: nothing of `server` but its facts is of use then. */
  #outside = false
  readonly #ports: Readonly<Record<'api' | 'agents' | 'enrolment' | 'objects', number>>
  #adminKey = ''

  private constructor(parts: Pick<TestHoldfast, 'folder' | 'options' | 'recovery'>, ports: readonly number[]) {
    this.folder = parts.folder
    this.options = parts.options
    this.recovery = parts.recovery
    const [api = 0, agents = 0, enrolment = 0, objects = 0] = ports
    this.#ports = { api, agents, enrolment, objects }
  }

  static async start(options: HoldfastOptions = {}): Promise<TestHoldfast> {
    const identity = await newAgeIdentity()
    const recovery = { recipient: await recipientOf(identity), identity: identity.reveal() }
    // its own while it is stopped, too
    const ports = await Promise.all(Array.from({ length: 4 }, freePort))
    const holdfast = new TestHoldfast({ folder: await throwAwayFolder(), options, recovery }, ports)
    if (!options.catalog) {
      const folder = path.join(holdfast.home, 'catalog')
      await mkdir(folder, { recursive: true, mode: 0o700 })
      await copyEmptyCatalog(folder)
    }
    // where the catalog is shared, an operator brings the keyring
    if (options.catalog?.kind === 'postgres') await openKeyring(path.join(holdfast.folder.path, 'keyring'), { create: true })
    await holdfast.startServer()
    return holdfast
  }

  /** Starts the control plane; again after `stopServer` on the same ports and the same catalog. */
  async startServer(more: Partial<ServerOptions> = {}): Promise<void> {
    this.server = await startServer({ ...this.#serverOptions(), ...more })
    if (this.server.adminKey) this.#adminKey = this.server.adminKey.reveal()
    this.operator = new Operator(this.server.apiUrl, this.#adminKey)
    this.#outside = false
  }

  async stopServer(): Promise<void> {
    await this.server.close()
  }

  /**
   * Ends it where it runs in this process, and starts it as a process that can be killed, with the same settings, a clock that goes with ours, and no limits of
   * requests.
   */
  async startShiftedServer(clock: ShiftedClock, env: Readonly<Record<string, string>> = {}): Promise<StartedProcess> {
    if (!this.#outside) await this.stopServer()
    this.#outside = true
    const { clock: _clock, log: _log, access: _access, ...options } = this.#serverOptions()
    const { catalog } = options
    const address: Record<string, string> = catalog.kind === 'postgres' ? { HOLDFAST_TEST_CATALOG: catalog.url.reveal() } : {}
    return startShiftedServer({ ...options, logLevel: this.options.logLevel ?? 'error' }, clock, { ...env, ...address })
  }

  /** The job as it stands; past the API and its limits where the control plane runs in this process. */
  job(id: string): Promise<JobView> {
    return this.#outside ? this.operator.job(id) : this.server.operations.getJob(this.server.operator, id)
  }

  /** Ends it, and starts the control plane again as a program that can be killed and paused: same catalog, ports and targets. */
  async startServerProcess(more: Readonly<Record<string, string>> = {}): Promise<StartedProcess> {
    await this.stopServer()
    const { home, listen } = this.#serverOptions()
    const at = ({ host, port }: { host: string; port: number }) => `${host}:${port}`
    return startServerProcess({
      ...this.#variables(),
      HOLDFAST_HOME: home,
      HOLDFAST_LISTEN_API: at(listen.api),
      HOLDFAST_LISTEN_AGENTS: at(listen.agents),
      HOLDFAST_LISTEN_ENROLMENT: at(listen.enrolment),
      HOLDFAST_LISTEN_OBJECTS: at(listen.objects),
      ...more,
    })
  }

  /** One more control plane of the same catalog, with a home of its own: a program on free ports. */
  async startAnotherProcess(name: string, more: Readonly<Record<string, string>> = {}): Promise<StartedProcess> {
    const any = '127.0.0.1:0'
    return startServerProcess({
      ...this.#variables(),
      HOLDFAST_HOME: path.join(this.folder.path, name),
      HOLDFAST_LISTEN_API: any,
      HOLDFAST_LISTEN_AGENTS: any,
      HOLDFAST_LISTEN_ENROLMENT: any,
      ...more,
    })
  }

  /** One more control plane of the same catalog, a process on free ports whose clock goes with the given one, and that has the catalog by `catalog`. */
  startAnotherShifted(
    name: string,
    clock: ShiftedClock,
    { catalog, env }: { catalog: Secret; env: Readonly<Record<string, string>> },
  ): Promise<StartedProcess> {
    const { clock: _clock, log: _log, access: _access, ...options } = this.#serverOptions()
    const home = path.join(this.folder.path, name)
    const settings = { ...options, home, listen: this.#anyPorts(), logLevel: 'info' }
    return startShiftedServer(settings, clock, { ...env, HOLDFAST_TEST_CATALOG: catalog.reveal() })
  }

  #anyPorts(): ServerOptions['listen'] {
    const any = { host: '127.0.0.1', port: 0 }
    return { api: any, agents: any, enrolment: any, objects: any }
  }

  /** One more control plane of the same catalog, in this process and with the same clock. The caller closes it. */
  startAnother(name: string): Promise<RunningServer> {
    const options = this.#serverOptions()
    return startServer({ ...options, home: path.join(this.folder.path, name), listen: this.#anyPorts() })
  }

  #variables(): Record<string, string> {
    const { catalog, targets, keyring } = this.#serverOptions()
    return {
      HOLDFAST_CATALOG: catalog.kind === 'embedded' ? 'embedded' : catalog.url.reveal(),
      HOLDFAST_ADVERTISE: '127.0.0.1',
      HOLDFAST_TARGETS: JSON.stringify(targets),
      HOLDFAST_KEYS_PATH: keyring.path,
      HOLDFAST_RECOVERY_RECIPIENTS: this.recovery.recipient,
    }
  }

  /** Of the control plane. */
  get home(): string {
    return this.options.home ?? path.join(this.folder.path, 'server')
  }

  get storeFolder(): string {
    return path.join(this.folder.path, 'store')
  }

  /** The text of the recovery file, as the quickstart keeps it. */
  recoveryFile(): string {
    const { identity, recipient } = this.recovery
    return recoveryFile({ identity: new Secret(identity), recipient, fleet: this.server.fleet, now: new Date() }).reveal()
  }

  /** A host joins with these sources (entries of agent.yaml) and is connected when this resolves. `server`: by way of a proxy there. */
  async addAgent(
    name: string,
    config: { sources: Record<string, Record<string, unknown>>; [key: string]: unknown },
    options: { readonly server?: string } = {},
  ): Promise<TestAgent> {
    const home = path.join(this.folder.path, 'agents', name)
    await mkdir(home, { recursive: true })
    const yaml = path.join(this.folder.path, `${name}.yaml`)
    await writeFile(yaml, stringify(config, { aliasDuplicateObjects: false }))
    const invitation = await this.server.operations.inviteAgent(this.server.operator, {
      name,
      valid_seconds: 900,
      replace: false,
    })
    const enrolment = `127.0.0.1:${this.server.ports.enrolment}`
    const args = [
      'configure',
      '--server',
      options.server ?? invitation.server,
      '--enrolment-server',
      enrolment,
      '--pin',
      invitation.pin,
      '--config-path',
      yaml,
    ]
    await runCommand(process.execPath, [...FLAGS, AGENT, '--home', home, ...args], {
      env: { ...compiled, HOLDFAST_TOKEN: invitation.token },
    })
    const agent = new AgentOnHost(this, name, home)
    this.agents.set(name, agent)
    await agent.start()
    return agent
  }

  /** Waits until the agent is connected and its sources are known. */
  async connected(name: string): Promise<void> {
    await waitFor(`agent ${name} to be connected`, async () => {
      const { items } = this.#outside
        ? await this.operator.ask<{ items: AgentView[] }>('GET', '/api/v1/agents?limit=500')
        : await this.server.operations.listAgents(this.server.operator, { all: false }, { limit: 500 })
      const agent = items.find((candidate) => candidate.name === name)
      return agent?.connected
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.agents.values()].map((agent) => agent.stop()))
    await this.server.close()
    await this.folder.remove()
  }

  #serverOptions(): ServerOptions {
    const { home, options } = this
    const on = (port: number) => ({ host: '127.0.0.1', port })
    const shared = options.catalog?.kind === 'postgres'
    return {
      home,
      catalog: options.catalog ?? { kind: 'embedded', folder: path.join(home, 'catalog') },
      listen: {
        api: on(this.#ports.api),
        agents: on(this.#ports.agents),
        enrolment: on(this.#ports.enrolment),
        objects: on(this.#ports.objects),
      },
      hosts: ['127.0.0.1'],
      targets: options.targets ?? { primary: { kind: 'local', path: this.storeFolder }, ...options.moreTargets },
      defaultTarget: Object.keys(options.targets ?? {})[0] ?? 'primary',
      recoveryRecipients: [this.recovery.recipient],
      keyring: { path: path.join(this.folder.path, 'keyring'), shared },
      limits: { ...DEFAULT_LIMITS, ...options.limits },
      metricsFor: 'anyone',
      access: options.access,
      fleetSettings: options.fleetSettings,
      clock: options.clock ?? systemClock,
      log: createLogger({ level: options.logLevel ?? 'error' }),
    }
  }
}

const FLAGS = ['--disable-warning=ExperimentalWarning']

class AgentOnHost implements TestAgent {
  readonly name: string
  readonly home: string
  readonly #holdfast: TestHoldfast
  #process: StartedProcess | undefined

  constructor(holdfast: TestHoldfast, name: string, home: string) {
    this.#holdfast = holdfast
    this.name = name
    this.home = home
  }

  get process(): StartedProcess {
    if (this.#process) return this.#process
    throw new Error(`agent ${this.name} was not started`)
  }

  async start(): Promise<void> {
    this.#process = await startProcess(process.execPath, [...FLAGS, AGENT, '--home', this.home, 'run'], {
      env: { ...compiled, ...jobProgram, ...this.#holdfast.options.agentEnv },
      ready: (started) => started.output().includes('connected to the control plane'),
    })
    await this.#holdfast.connected(this.name)
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    await this.#process?.stop({ signal })
  }

  async jobProcesses(): Promise<number[]> {
    const { status, stdout, stderr } = await tryCommand('pgrep', ['-P', String(this.process.pid), '-f', 'agent/jobs/child'])
    // 1: there is none (pgrep(1))
    if (status !== 0 && status !== 1) throw new Error(`pgrep: exit status ${status}: ${stderr}`)
    return stdout
      .split('\n')
      .filter((line) => line !== '')
      .map(Number)
  }
}
