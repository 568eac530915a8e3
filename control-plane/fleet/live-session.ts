import type { Clock } from '../../shared/clock.ts'
import { HoldfastError } from '../../shared/errors.ts'
import {
  type ConnectRequest,
  type ConnectResponse,
  type Hello,
  SessionEndReason,
} from '../../shared/generated/holdfast/agent/v1/session.ts'
import { MessageQueue } from '../../shared/message-queue.ts'
import type { EndCause, EpochHolder } from '../catalog/identity-sessions.ts'
import type { AgentPeer } from './authenticate.ts'
import { requireBounded } from './message-bounds.ts'

export type ToAgent = NonNullable<ConnectResponse['message']>
export type FromAgent = NonNullable<ConnectRequest['message']>
/** What a handler is given: the transport keeps hello and heartbeats to itself. */
export type AgentMessage = Exclude<FromAgent, { $case: 'hello' | 'heartbeat' }>

/** One agent's stream on this control plane, from its welcome to its end. */
export interface Session extends EpochHolder {
  readonly agentId: string
  readonly agentName: string
  readonly agentRecipient: string
  readonly epoch: number
  readonly instanceId: string
  /** New with each start of the agent's program. */
  readonly agentInstance: string
  /** Aborts when the stream has ended, however it did. */
  readonly signal: AbortSignal
  /**
   * Queues a message; waits while the agent reads more slowly than it is written to. Throws `session_superseded` when the
   * stream has ended: the message is then not sent, and one that was queued before the end may be lost as well.
   */
  send(message: ToAgent): Promise<void>
  /** Tells the agent why and ends the stream. Repeating it changes nothing. */
  end(reason: SessionEndReason, message: string): void
}

/**
 * What becomes of streams and their messages. Injected.
 *
 * Contract: for one session `onConnected` comes first, then `onMessage` one by one in the agent's order, then `onClosed` once,
 * each after the one before has resolved. Two sessions of one agent may overlap: writes are guarded by the epoch
 * (`requireCurrentEpoch` in the same transaction). A throw ends the stream, so that the agent comes back and sends again
 * what was not confirmed; `session_superseded` ends it as replaced.
 */
export interface SessionHandler {
  onConnected(session: Session, hello: Hello): Promise<void>
  onMessage(session: Session, message: AgentMessage): Promise<void>
  onClosed(session: Session): Promise<void>
}

const OUTBOX = 64
const INBOX = 64

export class LiveSession implements Session {
  readonly agentId: string
  readonly agentName: string
  readonly agentRecipient: string
  readonly epoch: number
  readonly instanceId: string
  readonly agentInstance: string
  readonly outbox = new MessageQueue<ToAgent>(OUTBOX)
  readonly inbox = new MessageQueue<AgentMessage>(INBOX)
  readonly #aborter = new AbortController()
  readonly #clock: Clock
  #heardMs: number
  #held = false
  #endReason = 'closed by the agent'

  constructor(agent: AgentPeer, stream: { epoch: number; instanceId: string; agentInstance: string; clock: Clock }) {
    this.agentId = agent.agentId
    this.agentName = agent.name
    this.agentRecipient = agent.ageRecipient
    this.epoch = stream.epoch
    this.instanceId = stream.instanceId
    this.agentInstance = stream.agentInstance
    this.#clock = stream.clock
    this.#heardMs = stream.clock.monotonicMs()
  }

  get signal(): AbortSignal {
    return this.#aborter.signal
  }

  get endReason(): string {
    return this.#endReason
  }

  async send(message: ToAgent): Promise<void> {
    if (await this.outbox.push(message)) return
    throw new HoldfastError('session_superseded', `stream ${this.epoch} of agent ${this.agentName} has ended`)
  }

  end(reason: SessionEndReason, message: string): void {
    if (this.signal.aborted) return
    this.#endReason = message
    const ended = { $case: 'sessionEnded', value: { reason, message } } as const
    this.#close({ last: ended })
  }

  /** Ends the stream with a status in place of a reason. */
  fail(error: unknown): void {
    if (this.signal.aborted) return
    this.#endReason = error instanceof Error ? error.message : String(error)
    this.#close({ error })
  }

  /** The agent ended it, or the connection broke. What it said before is still handled. */
  hangUp(): void {
    if (!this.signal.aborted) this.#close({})
  }

  #close(how: { last?: ToAgent; error?: unknown }): void {
    // commands that wait for a stream that is over are told to another one
    this.outbox.close({ ...how, drop: true })
    this.inbox.close({ drop: how.last !== undefined || how.error !== undefined })
    this.#aborter.abort(new HoldfastError('session_superseded', `stream ${this.epoch} of agent ${this.agentName} has ended`))
  }

  /** Takes in one message. Waits while the handler is behind: the agent is then held back by the transport. */
  async receive(message: FromAgent): Promise<void> {
    this.#heardMs = this.#clock.monotonicMs()
    if (message.$case === 'heartbeat') return
    if (message.$case === 'hello') throw new HoldfastError('invalid_argument', `agent ${this.agentName} said hello twice`)
    requireBounded(message)
    this.#held = this.inbox.full
    await this.inbox.push(message)
    this.#held = false
    this.#heardMs = this.#clock.monotonicMs()
  }

  /** While this side does not read, silence says nothing about the agent. */
  silentMs(): number {
    return this.#held ? 0 : this.#clock.monotonicMs() - this.#heardMs
  }
}

export const endReasons: Record<EndCause, [SessionEndReason, string]> = {
  revoked: [SessionEndReason.REVOKED, 'the certificate of this agent was revoked'],
  suspended: [SessionEndReason.REVOKED, 'this agent is suspended'],
  replaced: [SessionEndReason.REPLACED, 'a newer stream of this agent took its place'],
}
