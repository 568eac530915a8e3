import type { Clock } from '../../shared/clock.ts'
import { SessionEndReason } from '../../shared/generated/holdfast/agent/v1/session.ts'
import type { Logger } from '../../shared/log.ts'
import type { Catalog } from '../catalog/catalog.ts'
import { beatInstance, removeInstance } from '../catalog/identity-instances.ts'
import { beatSessions, endSessionsOfDeadInstances, openSessionsOf, sessionsToEnd } from '../catalog/identity-sessions.ts'
import type { Fleet } from './authority.ts'
import { endReasons } from './live-session.ts'
import type { LiveSessions } from './live-sessions.ts'
import { type FleetSettings, SESSIONS_CHANNEL } from './settings.ts'

export interface KeeperDeps {
  readonly catalog: Catalog
  readonly clock: Clock
  readonly log: Logger
  readonly settings: FleetSettings
  readonly instanceId: string
  readonly live: LiveSessions
  readonly fleet: Pick<Fleet, 'refresh'>
}

/** An instance that was not heard of for this long is gone: its streams are anybody's. */
export const INSTANCE_DEAD_MS = 30_000
/** Without the catalog nobody knows who was revoked: streams are ended in time for the five seconds to hold. */
const BLIND_MS = 3000
const BEAT_MS = 5000

/**
 * Looks every two seconds at what the catalog says of this instance's streams, and at once when told to. A notification that
 * is lost costs two seconds and nothing else.
 */
export class SessionKeeper {
  readonly #deps: KeeperDeps
  readonly #stop = new AbortController()
  #loop: Promise<void> = Promise.resolve()
  #unlisten: () => Promise<void> = async () => undefined
  #looking: Promise<void> | null = null
  #again = false
  #seenMs: number
  #heartbeat = 0n
  #beatMs = Number.NEGATIVE_INFINITY
  #heartbeatMs = 0

  constructor(deps: KeeperDeps) {
    this.#deps = deps
    this.#seenMs = deps.clock.monotonicMs()
  }

  async start(): Promise<void> {
    const { catalog, clock, instanceId } = this.#deps
    await beatInstance(catalog.db, instanceId)
    this.#unlisten = await catalog.listen(SESSIONS_CHANNEL, () => void this.look())
    this.#heartbeatMs = clock.monotonicMs()
    this.#loop = this.#run()
  }

  async stop(): Promise<void> {
    this.#stop.abort()
    await this.#loop
    await this.#looking
    await this.#unlisten()
    await removeInstance(this.#deps.catalog.db, this.#deps.instanceId)
  }

  async #run(): Promise<void> {
    const { clock, settings } = this.#deps
    while (!this.#stop.signal.aborted) {
      this.#tend()
      await this.look()
      await clock.sleep(settings.pollMs, this.#stop.signal).catch(() => 'stopped')
    }
  }

  /** Ends the streams that must end. Several at once share one look, and one more follows so that none is answered by an older one. */
  look(): Promise<void> {
    this.#again = true
    this.#looking ??= this.#lookWhileAsked().finally(() => {
      this.#looking = null
    })
    return this.#looking
  }

  async #lookWhileAsked(): Promise<void> {
    while (this.#again) {
      this.#again = false
      await this.#lookOnce().catch((error: unknown) => this.#blind(error))
    }
  }

  async #lookOnce(): Promise<void> {
    const { catalog, clock, instanceId, live } = this.#deps
    const held = live.all()
    const toEnd = await sessionsToEnd(catalog.db, instanceId)
    const open = new Set((await openSessionsOf(catalog.db, instanceId)).map(({ agentId, epoch }) => `${agentId} ${epoch}`))
    this.#seenMs = clock.monotonicMs()
    for (const session of held) {
      const found = toEnd.find(({ agentId, epoch }) => agentId === session.agentId && epoch === session.epoch)
      if (found) session.end(...endReasons[found.cause])
      else if (!open.has(`${session.agentId} ${session.epoch}`)) session.end(...endReasons.replaced)
    }
    await this.#beat()
  }

  async #beat(): Promise<void> {
    const { catalog, clock, instanceId, live } = this.#deps
    const nowMs = clock.monotonicMs()
    if (nowMs - this.#beatMs < BEAT_MS) return
    const sinceMs = nowMs - this.#beatMs
    this.#beatMs = nowMs
    await beatInstance(catalog.db, instanceId)
    const now = clock.now()
    const heard = live.all().filter((session) => session.silentMs() < sinceMs)
    await beatSessions(catalog.db, instanceId, heard, now)
    await this.#deps.fleet.refresh()
    await endSessionsOfDeadInstances(catalog.db, { deadAfterMs: INSTANCE_DEAD_MS, now })
  }

  #blind(error: unknown): void {
    const { clock, live, log } = this.#deps
    const blindMs = clock.monotonicMs() - this.#seenMs
    log.error({ err: error, blind_ms: Math.round(blindMs) }, 'the catalog did not say which agents were revoked')
    if (blindMs >= BLIND_MS) live.endAll('the control plane cannot reach its catalog', false)
  }

  /** Heartbeats to agents, and the end of streams that say nothing. */
  #tend(): void {
    const { clock, live, settings } = this.#deps
    const nowMs = clock.monotonicMs()
    const beat = nowMs - this.#heartbeatMs >= settings.heartbeatSeconds * 1000
    if (beat) {
      this.#heartbeatMs = nowMs
      this.#heartbeat += 1n
    }
    for (const session of live.all()) {
      if (session.silentMs() > settings.leaseSeconds * 1000) {
        session.end(SessionEndReason.UNSPECIFIED, `nothing was heard of the agent for ${settings.leaseSeconds} s`)
      } else if (beat) {
        session.outbox.offer({ $case: 'heartbeat', value: { number: this.#heartbeat } })
      }
    }
  }
}
