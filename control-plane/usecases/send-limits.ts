import { isHoldfastError } from '../../shared/errors.ts'
import {
  DiskPriority,
  ProcessorPriority,
  type AgentLimits as WireLimits,
} from '../../shared/generated/holdfast/agent/v1/session.ts'
import { listPolicies } from '../catalog/policies.ts'
import { listSources } from '../catalog/sources.ts'
import { type AgentLimits, limitsAt } from '../domain/limits.ts'
import { policySchema, selectsSource } from '../domain/policy.ts'
import type { Session } from '../fleet/live-session.ts'
import type { ControlPlane } from './control-plane.ts'

/**
 * Tells agents what their jobs may take: on each new stream, and whenever it has changed, because a policy did, or a source, or the time of day. The
 * control plane's clock decides, as it does for schedules; an agent that is away keeps to what it was told last.
 */
export class SendLimits {
  readonly #cp: ControlPlane
  readonly #told = new WeakMap<Session, string>()

  constructor(cp: ControlPlane) {
    this.#cp = cp
  }

  /** Before it was told, an agent is given no job: that would begin without its limits. */
  told(session: Session): boolean {
    return this.#told.has(session)
  }

  async tell(sessions: readonly Session[]): Promise<void> {
    if (sessions.length === 0) return
    const limitsOf = await this.#limits()
    for (const session of sessions) {
      const limits = limitsOf(session.agentId)
      const said = JSON.stringify(limits)
      if (this.#told.get(session) !== said) await this.#send(session, limits, said)
    }
  }

  async #send(session: Session, limits: AgentLimits, said: string): Promise<void> {
    try {
      await session.send({ $case: 'limits', value: wireLimits(limits) })
      this.#told.set(session, said)
    } catch (error) {
      // the stream is over: the next one is told anew
      if (!isHoldfastError(error, 'session_superseded')) throw error
    }
  }

  /** A policy that this program cannot read limits nothing: it must not keep the whole fleet's jobs from starting. */
  async #limits(): Promise<(agentId: string) => AgentLimits> {
    const { db } = this.#cp.catalog
    const now = this.#cp.clock.now()
    const policies = (await listPolicies(db)).flatMap(({ spec }) => {
      const policy = policySchema.safeParse(spec).data
      return policy?.limits ? [{ select: policy.select, limits: policy.limits }] : []
    })
    // most fleets limit nothing: their sources need not be read every two seconds
    if (policies.length === 0) return () => limitsAt([], now)
    const sources = Map.groupBy(await listSources(db, { present: true }), ({ agentId }) => agentId)
    return (agentId) => {
      const mine = sources.get(agentId) ?? []
      const holding = policies.filter(({ select }) => mine.some((source) => selectsSource(select, source)))
      return limitsAt(
        holding.map(({ limits }) => limits),
        now,
      )
    }
  }
}

const PROCESSOR = { normal: ProcessorPriority.NORMAL, low: ProcessorPriority.LOW, lowest: ProcessorPriority.LOWEST } as const
const DISK = { normal: DiskPriority.NORMAL, low: DiskPriority.LOW, idle: DiskPriority.IDLE } as const

const wireLimits = (limits: AgentLimits): WireLimits => ({
  uploadBytesPerSecond: BigInt(limits.uploadBytesPerSecond ?? 0),
  downloadBytesPerSecond: BigInt(limits.downloadBytesPerSecond ?? 0),
  processor: PROCESSOR[limits.processor],
  disk: DISK[limits.disk],
})
