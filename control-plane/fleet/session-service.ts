import type { CallContext } from 'nice-grpc-common'
import type { Clock } from '../../shared/clock.ts'
import { asHoldfastError, HoldfastError, isHoldfastError } from '../../shared/errors.ts'
import {
  type ConnectRequest,
  type ConnectResponse,
  type Hello,
  SessionEndReason,
} from '../../shared/generated/holdfast/agent/v1/session.ts'
import type { Logger } from '../../shared/log.ts'
import { PROTOCOL_MAX, PROTOCOL_MIN } from '../../shared/protocol.ts'
import type { Catalog } from '../catalog/catalog.ts'
import { noteAgentFacts } from '../catalog/identity-agents.ts'
import { revokeCertificates } from '../catalog/identity-certificates.ts'
import { endSession, openSession } from '../catalog/identity-sessions.ts'
import { isSkewed } from '../domain/identity.ts'
import { type AgentPeer, SUPERSEDED } from './authenticate.ts'
import type { AgentContext } from './guard.ts'
import { requireHello } from './hello.ts'
import { endReasons, LiveSession, type SessionHandler, type ToAgent } from './live-session.ts'
import type { LiveSessions } from './live-sessions.ts'
import { type FleetSettings, SESSIONS_CHANNEL } from './settings.ts'

export interface SessionDeps {
  readonly catalog: Catalog
  readonly clock: Clock
  readonly log: Logger
  readonly settings: FleetSettings
  readonly instanceId: string
  readonly serverVersion: string
  readonly handler: SessionHandler
  readonly live: LiveSessions
}

/** The long stream of each agent: hello, welcome, then messages both ways until one of the reasons to end it. */
export class SessionService {
  readonly #deps: SessionDeps

  constructor(deps: SessionDeps) {
    this.#deps = deps
  }

  async *connect(
    requests: AsyncIterable<ConnectRequest>,
    context: CallContext & AgentContext,
  ): AsyncGenerator<ConnectResponse, void, undefined> {
    const { clock, live } = this.#deps
    const incoming = requests[Symbol.asyncIterator]()
    const hello = await requireHello(incoming, clock, context.signal)
    const protocol = negotiate(hello)
    const session = await this.#open(context.agent, hello)
    const hangUp = () => session.hangUp()
    context.signal.addEventListener('abort', hangUp, { once: true })
    // gone while its epoch was taken: the event has been
    if (context.signal.aborted) session.hangUp()
    const work = this.#work(session, hello, incoming)
    try {
      yield { message: this.#welcome(protocol, session.epoch) }
      for await (const message of session.outbox) yield { message }
    } finally {
      context.signal.removeEventListener('abort', hangUp)
      session.hangUp()
      live.remove(session)
      await work
      await this.#closed(session)
    }
  }

  async #open(agent: AgentPeer, hello: Hello): Promise<LiveSession> {
    const { catalog, clock, instanceId, live } = this.#deps
    const now = clock.now()
    const clockOffsetMs = Number(hello.clockMs) - now.getTime()
    const stream = { agentId: agent.agentId, instanceId, agentInstance: hello.instance, certificateSerial: agent.serial, now }
    const epoch = await catalog.transaction(async (tx) => {
      const given = await openSession(tx, stream)
      if (given === null) return null
      await noteAgentFacts(tx, agent.agentId, {
        version: hello.agentVersion,
        os: hello.os,
        arch: hello.arch,
        labels: hello.labels,
        ageRecipient: hello.ageRecipient,
        clockOffsetMs,
        now,
      })
      // its successor is in use, so whoever still shows an older one has it from a copy
      await revokeCertificates(tx, agent.agentId, { reason: SUPERSEDED, now, below: agent.generation })
      return given
    })
    if (epoch === null) throw new HoldfastError('certificate_revoked', `agent ${agent.name} may not connect any more`)
    const session = new LiveSession(
      { ...agent, ageRecipient: hello.ageRecipient },
      { epoch, instanceId, agentInstance: hello.instance, clock },
    )
    live.add(session)
    this.#endWithCertificate(session, agent.certificate.notAfter.getTime() - now.getTime())
    // another control plane may hold the stream that this one replaces
    await catalog.notify(SESSIONS_CHANNEL, agent.agentId)
    this.#report(session, hello, clockOffsetMs)
    return session
  }

  #report(session: LiveSession, hello: Hello, clockOffsetMs: number): void {
    const { log } = this.#deps
    log.info({ agent: session.agentName, epoch: session.epoch, version: hello.agentVersion }, 'agent connected')
    if (!isSkewed(clockOffsetMs)) return
    const offset_seconds = Math.round(clockOffsetMs / 1000)
    log.warn({ agent: session.agentName, offset_seconds }, 'suspected clock skew: the clock of the agent differs')
  }

  /** By the monotonic clock: a wall clock that is set back must not prolong a certificate. */
  #endWithCertificate(session: LiveSession, remainingMs: number): void {
    const { clock } = this.#deps
    const message = 'the certificate that opened this stream has ended'
    clock.sleep(Math.max(0, remainingMs), session.signal).then(
      () => session.end(SessionEndReason.CERTIFICATE_EXPIRED, message),
      // the stream ended first
      () => undefined,
    )
  }

  #welcome(protocol: number, epoch: number): ToAgent {
    const { clock, settings, serverVersion } = this.#deps
    return {
      $case: 'welcome',
      value: {
        protocol,
        epoch: BigInt(epoch),
        heartbeatSeconds: settings.heartbeatSeconds,
        leaseSeconds: settings.leaseSeconds,
        clockMs: BigInt(clock.now().getTime()),
        serverVersion,
      },
    }
  }

  /** Never rejects: what goes wrong ends the stream. */
  async #work(session: LiveSession, hello: Hello, incoming: AsyncIterator<ConnectRequest>): Promise<void> {
    const reading = this.#read(session, incoming)
    try {
      await this.#deps.handler.onConnected(session, hello)
      for await (const message of session.inbox) await this.#deps.handler.onMessage(session, message)
    } catch (error) {
      this.#endOn(session, error)
    }
    // a read that is still open ends with the call itself
    void reading
  }

  async #read(session: LiveSession, incoming: AsyncIterator<ConnectRequest>): Promise<void> {
    try {
      for (;;) {
        const next = await incoming.next()
        if (next.done || session.signal.aborted) break
        if (next.value.message) await session.receive(next.value.message)
      }
      session.hangUp()
    } catch (error) {
      if (isHoldfastError(error)) session.fail(error)
      else session.hangUp()
    }
  }

  #endOn(session: LiveSession, error: unknown): void {
    if (session.signal.aborted) return
    if (isHoldfastError(error, 'session_superseded')) return session.end(...endReasons.replaced)
    const failure = asHoldfastError(error)
    this.#deps.log.error(
      { agent: session.agentName, epoch: session.epoch, err: error },
      'a message could not be handled: the stream is ended',
    )
    session.fail(failure)
  }

  async #closed(session: LiveSession): Promise<void> {
    const { catalog, clock, handler, log } = this.#deps
    log.info({ agent: session.agentName, epoch: session.epoch, reason: session.endReason }, 'agent disconnected')
    // neither may keep the other from running: a row that stays open is ended by the next poll, or with this instance
    for (const step of [() => endSession(catalog.db, session, session.endReason, clock.now()), () => handler.onClosed(session)]) {
      await step().catch((error: unknown) =>
        log.error({ agent: session.agentName, err: error }, 'closing a stream failed in part'),
      )
    }
  }
}

/** The newest version that both speak. */
function negotiate(hello: Hello): number {
  const protocol = Math.min(hello.protocolMax, PROTOCOL_MAX)
  if (protocol >= Math.max(hello.protocolMin, PROTOCOL_MIN)) return protocol
  const older = hello.protocolMax < PROTOCOL_MIN ? 'agent' : 'control plane'
  throw new HoldfastError(
    'protocol_unsupported',
    `the agent speaks protocol ${hello.protocolMin} to ${hello.protocolMax}, the control plane ${PROTOCOL_MIN} to ${PROTOCOL_MAX}`,
    { hint: `Update the ${older}.` },
  )
}
