import { SessionEndReason } from '../../shared/generated/holdfast/agent/v1/session.ts'
import { endReasons, type LiveSession, type Session } from './live-session.ts'

/** The streams that this control plane holds, at most one for each agent. */
export class LiveSessions {
  readonly #byAgent = new Map<string, LiveSession>()
  #closing = false

  /** Undefined when the agent's stream is on another control plane, or nowhere. */
  get(agentId: string): Session | undefined {
    return this.#byAgent.get(agentId)
  }

  all(): LiveSession[] {
    return [...this.#byAgent.values()]
  }

  get size(): number {
    return this.#byAgent.size
  }

  add(session: LiveSession): void {
    const older = this.#byAgent.get(session.agentId)
    // two streams of one agent may be opened at the same time: the newer epoch stays
    if (older && older.epoch > session.epoch) return session.end(...endReasons.replaced)
    older?.end(...endReasons.replaced)
    this.#byAgent.set(session.agentId, session)
    if (this.#closing) session.end(SessionEndReason.SHUTTING_DOWN, 'the control plane is stopping')
  }

  remove(session: LiveSession): void {
    if (this.#byAgent.get(session.agentId) === session) this.#byAgent.delete(session.agentId)
  }

  endAll(message: string, forGood: boolean): void {
    this.#closing ||= forGood
    for (const session of this.all()) session.end(SessionEndReason.SHUTTING_DOWN, message)
  }
}
