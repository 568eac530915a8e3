import { arch, platform } from 'node:os'
import type { Channel } from 'nice-grpc'
import { backoffMs } from '../../shared/backoff.ts'
import type { Clock } from '../../shared/clock.ts'
import { asHoldfastError, HoldfastError } from '../../shared/errors.ts'
import type { ObjectServiceClient } from '../../shared/generated/holdfast/agent/v1/objects.ts'
import {
  type ConnectRequest,
  type Hello,
  SessionEndReason,
  type Welcome,
} from '../../shared/generated/holdfast/agent/v1/session.ts'
import { randomBase32 } from '../../shared/ids.ts'
import type { Logger } from '../../shared/log.ts'
import { parseAddress } from './address.ts'
import { agentsChannel, type Clients, clientsOn } from './channel.ts'
import { warnOfSkew } from './clock-report.ts'
import { type AgentIdentity, requireIdentity } from './identity.ts'
import { type Renewed, renew, renewalDueMs, renewLate } from './renew.ts'
import { type Command, Stream, type StreamEnd } from './stream.ts'
import { type Explanation, explain, isForPeople } from './trouble.ts'

/** What the agent says of itself at the beginning of each stream. */
export type Description = Pick<Hello, 'sources' | 'journal' | 'labels'>

export interface LinkOptions {
  /** Folder of the agent's state. */
  readonly home: string
  readonly clock: Clock
  readonly log: Logger
  readonly agentVersion: string
  describe(): Description | Promise<Description>
  /** One by one, in the control plane's order; the next is read when it has resolved. What it throws is logged. */
  onCommand(command: Command): void | Promise<void>
  /** After each welcome: what was not confirmed is to be sent again. */
  onConnected?(welcome: Welcome): void
  /** Any sign of life of the control plane: leases go on. */
  onHeard?(): void
  onDisconnected?(): void
}

/** The agent's side of its connection. It comes back by itself after whatever happens; only `close` ends it. */
export interface Link {
  /** Who this agent is, with the certificate in use. */
  readonly identity: AgentIdentity
  readonly connected: boolean
  /** Why there is no stream, when that is known: for `holdfast-agent status` and logs. */
  readonly trouble: HoldfastError | null
  /** Of the last welcome; the default before the first. */
  readonly leaseSeconds: number
  /** False when there is no stream to put it on; nothing is kept for later. */
  send(message: ConnectRequest): boolean
  /** Unary calls on the present connection. They throw `control_plane_unreachable` (retry) while there is none. */
  readonly objects: ObjectServiceClient
  /** Monotonic time of the last sign of life; minus infinity before the first. */
  lastHeardMonotonicMs(): number
  /** Ends the stream in good order. Once. */
  close(): Promise<void>
}

const FIRST_WAIT_MS = 1000
/** Well under a lease: a control plane that comes back finds its agents before it gives their attempts up. */
const LONGEST_WAIT_MS = 15_000
/** A stream that stood this long starts the waits from the beginning. */
const STEADY_MS = 10_000
/** Refused for a reason that a person has to remove: asked again now and then, since they may have. */
const REFUSED_WAIT_MS = 5 * 60_000
/** Calls in flight on the connection of an earlier certificate may end. */
const OLD_CHANNEL_MS = 60_000

/** Reads the identity from `home` (throws `unauthenticated` when there is none) and connects in the background. */
export async function createLink(options: LinkOptions): Promise<Link> {
  const link = new RunningLink(options, await requireIdentity(options.home))
  link.start()
  return link
}

class RunningLink implements Link {
  readonly #options: LinkOptions
  readonly #instance = randomBase32(16)
  readonly #stop = new AbortController()
  #identity: AgentIdentity
  #renewAtMs: number
  #channel: Channel | undefined
  #clients: Clients | undefined
  #stream: Stream | undefined
  #welcomed = false
  #heardMs = Number.NEGATIVE_INFINITY
  #trouble: HoldfastError | null = null
  #running: Promise<void> = Promise.resolve()
  #background = new Set<Promise<unknown>>()
  #lateNext = false
  leaseSeconds = 60

  constructor(options: LinkOptions, identity: AgentIdentity) {
    this.#options = options
    this.#identity = identity
    this.#renewAtMs = options.clock.monotonicMs() + renewalDueMs(identity, options.clock)
    this.#lateNext = options.clock.now() > identity.notAfter
  }

  start(): void {
    this.#running = this.#run()
  }

  get identity(): AgentIdentity {
    return this.#identity
  }

  get connected(): boolean {
    return this.#welcomed
  }

  get trouble(): HoldfastError | null {
    return this.#trouble
  }

  send(message: ConnectRequest): boolean {
    return this.#welcomed && this.#stream !== undefined && this.#stream.send(message)
  }

  readonly objects: ObjectServiceClient = {
    signPuts: (request, options) => this.#objects().signPuts(request, options),
    signGets: (request, options) => this.#objects().signGets(request, options),
    askUnlock: (request, options) => this.#objects().askUnlock(request, options),
    openBackups: (request, options) => this.#objects().openBackups(request, options),
    commitBackup: (request, options) => this.#objects().commitBackup(request, options),
  }

  lastHeardMonotonicMs(): number {
    return this.#heardMs
  }

  async close(): Promise<void> {
    this.#stop.abort()
    this.#stream?.close()
    await this.#running
    await Promise.all(this.#background)
    this.#channel?.close()
  }

  #objects(): ObjectServiceClient {
    if (this.#clients && !this.#stop.signal.aborted) return this.#clients.objects
    throw new HoldfastError('control_plane_unreachable', 'the agent is not connected to the control plane')
  }

  async #run(): Promise<void> {
    for (let failures = 0; !this.#stop.signal.aborted; failures++) {
      const startMs = this.#options.clock.monotonicMs()
      const waitMs = await this.#attempt(failures + 1)
      // a stream that stood for a while was a success; one that breaks at once again and again is not hurried
      if (waitMs === 0 || this.#heardMs - startMs > STEADY_MS) failures = -1
      // ends early only when the link is closed
      if (waitMs > 0) await this.#options.clock.sleep(waitMs, this.#stop.signal).catch(() => undefined)
    }
  }

  /** One connection from dial to end. Returns how long to wait before the next; never rejects. */
  async #attempt(number: number): Promise<number> {
    // tried in turn with connecting: the reason to renew may be gone, and the enrolment port out of reach
    const late = this.#lateNext
    this.#lateNext = false
    let renewed = !late
    try {
      if (late) await this.#renewLate()
      renewed = true
      const end = await this.#connect()
      return this.#afterEnd(end, number)
    } catch (error) {
      const { trouble, renewLate } = await this.#explain(asHoldfastError(error), renewed)
      this.#trouble = trouble
      this.#lateNext = renewLate
      const forPeople = isForPeople(trouble) && !renewLate
      const waitMs = forPeople ? backoffMs(1, REFUSED_WAIT_MS, REFUSED_WAIT_MS) : this.#backoff(number)
      const fields = { code: trouble.code, hint: trouble.hint, retry_in_seconds: Math.round(waitMs / 1000) }
      if (!this.#stop.signal.aborted) this.#options.log.error(fields, trouble.message)
      return waitMs
    }
  }

  async #connect(): Promise<StreamEnd> {
    const { clock, log } = this.#options
    const hello = await this.#hello()
    if (this.#stop.signal.aborted) return { kind: 'closed' }
    this.#open()
    const clients = this.#clients as Clients
    const stream = new Stream(clients, clock)
    this.#stream = stream
    const renewing = new AbortController()
    let renewal: Promise<void> = Promise.resolve()
    try {
      return await stream.run(hello, {
        onWelcome: (welcome) => {
          this.#welcomed = true
          this.#trouble = null
          this.leaseSeconds = welcome.leaseSeconds
          log.info({ epoch: Number(welcome.epoch), server: welcome.serverVersion }, 'connected to the control plane')
          warnOfSkew(welcome.clockMs / 1000n, clock, log)
          renewal = this.#keepRenewed(clients, stream, renewing.signal)
          this.#options.onConnected?.(welcome)
        },
        onHeard: () => this.#heard(),
        onCommand: (command) => this.#command(command),
      })
    } finally {
      renewing.abort()
      await renewal
      this.#stream = undefined
      if (this.#welcomed) this.#options.onDisconnected?.()
      this.#welcomed = false
    }
  }

  /** A new connection for each stream; calls in flight on the one before are let end. */
  #open(): void {
    const old = this.#channel
    this.#channel = agentsChannel(this.#identity, parseAddress(this.#identity.agentsAddress))
    this.#clients = clientsOn(this.#channel, this.#options.clock)
    if (!old) return
    const closing = this.#options.clock.sleep(OLD_CHANNEL_MS, this.#stop.signal).then(
      () => old.close(),
      () => old.close(),
    )
    this.#background.add(closing)
    void closing.then(() => this.#background.delete(closing))
  }

  async #hello(): Promise<Hello> {
    const { clock, agentVersion, describe } = this.#options
    return {
      ...(await describe()),
      protocolMin: 0,
      protocolMax: 0,
      agentVersion,
      instance: this.#instance,
      os: platform(),
      arch: arch(),
      clockMs: BigInt(clock.now().getTime()),
      ageRecipient: this.#identity.ageRecipient,
    }
  }

  #heard(): void {
    this.#heardMs = this.#options.clock.monotonicMs()
    this.#options.onHeard?.()
  }

  async #command(command: Command): Promise<void> {
    try {
      await this.#options.onCommand(command)
    } catch (error) {
      this.#options.log.error({ err: error, command: command.$case }, 'a command could not be taken in')
    }
  }

  /** At two thirds of the certificate's life, by the monotonic clock; then the stream is taken up again with the new one. */
  async #keepRenewed(clients: Clients, stream: Stream, signal: AbortSignal): Promise<void> {
    const { clock, log, home } = this.#options
    for (let failures = 0; !signal.aborted; failures++) {
      const dueMs = this.#renewAtMs - clock.monotonicMs()
      const waitMs = failures === 0 ? Math.max(0, dueMs) : this.#backoff(failures + 4)
      // ends early only with the stream
      await clock.sleep(waitMs, signal).catch(() => undefined)
      if (signal.aborted) return
      try {
        this.#take(await renew(this.#identity, home, clients, signal))
        return stream.close()
      } catch (error) {
        // the stream ended meanwhile: the next one asks again with the same key
        if (signal.aborted) return
        const { code, hint, message } = asHoldfastError(error)
        log.warn({ code, hint, reason: message }, 'the certificate was not renewed; it is tried again')
      }
    }
  }

  async #renewLate(): Promise<void> {
    const { home, clock, log } = this.#options
    log.warn(
      { not_after: this.#identity.notAfter },
      'the certificate has ended, or is not accepted: it is renewed at the enrolment port',
    )
    this.#take(await renewLate(this.#identity, home, clock, log))
  }

  #take(renewed: Renewed): void {
    const { clock, log } = this.#options
    this.#identity = renewed.identity
    this.#renewAtMs = clock.monotonicMs() + renewed.renewAfterMs
    log.info({ generation: renewed.identity.generation, not_after: renewed.identity.notAfter }, 'the certificate was renewed')
  }

  #afterEnd(end: StreamEnd, number: number): number {
    const { log } = this.#options
    if (end.kind === 'closed') return 0
    log.warn({ reason: end.message }, 'the stream to the control plane has ended')
    if (end.kind === 'silent') return this.#backoff(number)
    switch (end.reason) {
      case SessionEndReason.CERTIFICATE_EXPIRED:
        this.#lateNext = true
        return 0
      case SessionEndReason.REPLACED:
        log.error('another program uses the identity of this agent: was this home folder copied?')
        return backoffMs(1, LONGEST_WAIT_MS, LONGEST_WAIT_MS)
      default:
        // the next attempt is told why, if it is refused
        return this.#backoff(number)
    }
  }

  async #explain(error: HoldfastError, renewed: boolean): Promise<Explanation> {
    // a late renewal that failed has said why; and what is closed needs no explanation
    if (!renewed || this.#stop.signal.aborted) return { trouble: error, renewLate: false }
    return explain(error, this.#identity, this.#options.clock)
  }

  #backoff(number: number): number {
    return backoffMs(number, FIRST_WAIT_MS, LONGEST_WAIT_MS)
  }
}
