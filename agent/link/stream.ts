import type { Clock } from '../../shared/clock.ts'
import { HoldfastError } from '../../shared/errors.ts'
import {
  ConnectRequest,
  type ConnectResponse,
  type Hello,
  type SessionEndReason,
  type Welcome,
} from '../../shared/generated/holdfast/agent/v1/session.ts'
import { MessageQueue } from '../../shared/message-queue.ts'
import { PROTOCOL_MAX, PROTOCOL_MIN } from '../../shared/protocol.ts'
import type { Clients } from './channel.ts'

export type FromControlPlane = NonNullable<ConnectResponse['message']>
/** What a handler is given: the stream keeps welcome, heartbeats and its own end to itself. */
export type Command = Exclude<FromControlPlane, { $case: 'welcome' | 'heartbeat' | 'sessionEnded' }>

/** A hello that is not answered within this time ends the attempt: a dial has no time-out of its own. */
const WELCOME_MS = 30_000
/** Log lines and progress of many jobs while the network is slow. */
const OUTBOX = 5000

export type StreamEnd =
  | { readonly kind: 'told'; readonly reason: SessionEndReason; readonly message: string }
  /** The control plane hung up without a word, or was not heard for the length of the lease. */
  | { readonly kind: 'silent'; readonly message: string }
  /** This side closed it. */
  | { readonly kind: 'closed' }

export interface StreamHandler {
  onWelcome(welcome: Welcome): void
  /** Any sign of life. */
  onHeard(): void
  /** One by one, in order; the next is read when it has resolved. */
  onCommand(command: Command): Promise<void>
}

/** One stream, from hello to its end. */
export class Stream {
  readonly #clients: Clients
  readonly #clock: Clock
  readonly #outbox = new MessageQueue<ConnectRequest>(OUTBOX)
  readonly #aborter = new AbortController()
  #welcome: Welcome | undefined
  #heardMs: number
  #closed = false
  #silence: string | undefined

  constructor(clients: Clients, clock: Clock) {
    this.#clients = clients
    this.#clock = clock
    this.#heardMs = clock.monotonicMs()
  }

  /**
   * Queues a message. False when it was not: the stream is over, or it lags so far behind that only a new one helps; that is
   * begun then, and what was not confirmed is sent again on it. Progress is simply left out.
   */
  send(request: ConnectRequest): boolean {
    if (this.#outbox.offer(request)) return true
    if (request.message?.$case !== 'jobProgress') this.#giveUp('the stream does not keep up with what is sent')
    return false
  }

  /** Ends it in good order: the control plane reads what was queued. */
  close(): void {
    this.#closed = true
    this.#outbox.close()
    // a control plane that does not answer the end is not waited for
    const timer = this.#clock.sleep(WELCOME_MS / 10, this.#aborter.signal)
    timer.then(
      () => this.#aborter.abort(),
      () => undefined,
    )
  }

  /** Resolves when the stream has ended; throws what the control plane refused it with. */
  async run(hello: Hello, handler: StreamHandler): Promise<StreamEnd> {
    this.#outbox.offer(ConnectRequest.create({ message: { $case: 'hello', value: { ...hello, ...OWN_PROTOCOL } } }))
    const watching = this.#watch()
    try {
      const end = await this.#read(handler)
      return end ?? this.#ending('the control plane ended the stream')
    } catch (error) {
      if (this.#aborter.signal.aborted) return this.#ending('aborted')
      throw error
    } finally {
      this.#closed = true
      this.#outbox.close({ drop: true })
      this.#aborter.abort()
      await watching
    }
  }

  async #read(handler: StreamHandler): Promise<StreamEnd | null> {
    for await (const { message } of this.#clients.sessions.connect(this.#outbox, { signal: this.#aborter.signal })) {
      this.#heardMs = this.#clock.monotonicMs()
      handler.onHeard()
      if (!message) continue
      if (message.$case === 'sessionEnded') return { kind: 'told', ...message.value }
      if (message.$case === 'welcome') this.#welcomed(message.value, handler)
      else if (message.$case !== 'heartbeat') await handler.onCommand(message)
      // a command that took long to take in is no silence of the other side
      this.#heardMs = this.#clock.monotonicMs()
    }
    return null
  }

  #welcomed(welcome: Welcome, handler: StreamHandler): void {
    if (this.#welcome) throw new HoldfastError('protocol_unsupported', 'the control plane welcomed this agent twice')
    if (welcome.protocol < PROTOCOL_MIN || welcome.protocol > PROTOCOL_MAX) {
      throw new HoldfastError(
        'protocol_unsupported',
        `the control plane chose protocol ${welcome.protocol}, which was not offered`,
        {
          hint: 'Update the agent.',
        },
      )
    }
    this.#welcome = welcome
    handler.onWelcome(welcome)
  }

  /** Heartbeats to the control plane, and an end to waiting for one that is silent. */
  async #watch(): Promise<void> {
    let number = 0n
    const { signal } = this.#aborter
    while (!signal.aborted) {
      const limitMs = this.#welcome ? this.#welcome.leaseSeconds * 1000 : WELCOME_MS
      const everyMs = this.#welcome ? Math.max(1, this.#welcome.heartbeatSeconds) * 1000 : 1000
      // ends with the stream: nothing to watch any more
      await this.#clock.sleep(everyMs, signal).catch(() => undefined)
      if (signal.aborted) return
      if (this.#clock.monotonicMs() - this.#heardMs > limitMs) {
        this.#giveUp(`the control plane was not heard for ${limitMs / 1000} s`)
      } else if (this.#welcome) {
        number += 1n
        this.#outbox.offer(ConnectRequest.create({ message: { $case: 'heartbeat', value: { number } } }))
      }
    }
  }

  #giveUp(why: string): void {
    this.#silence = why
    this.#aborter.abort()
  }

  #ending(otherwise: string): StreamEnd {
    if (this.#closed) return { kind: 'closed' }
    return { kind: 'silent', message: this.#silence ?? otherwise }
  }
}

const OWN_PROTOCOL = { protocolMin: PROTOCOL_MIN, protocolMax: PROTOCOL_MAX }
