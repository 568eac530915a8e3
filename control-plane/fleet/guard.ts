import type { CallContext, ServerMiddleware } from 'nice-grpc-common'
import type { Clock } from '../../shared/clock.ts'
import { asHoldfastError, ERRORS, HoldfastError, isHoldfastError } from '../../shared/errors.ts'
import type { Catalog } from '../catalog/catalog.ts'
import type { Audit } from './audit.ts'
import { type AgentPeer, authenticate } from './authenticate.ts'
import { peerAddress, peerCertificate } from './peer.ts'
import { RateLimiter } from './rate-limit.ts'
import { type RpcRow, rowOf } from './rpc-policy.ts'

/** What a service method finds in its context beside what gRPC gives. */
export interface GuardContext {
  /** Set for every RPC whose row says `agent`. */
  readonly agent?: AgentPeer
  /** Says in the audit trail what the call was about. The last one counts. */
  note(subject: string, detail?: Readonly<Record<string, unknown>>): void
}

export type AgentContext = GuardContext & { readonly agent: AgentPeer }

const RENEW = '/holdfast.agent.v1.IdentityService/Renew'
/** Of equal refusals one in ten minutes is recorded. */
const REFUSALS_PER_MINUTE = 0.1
/** Guessed tokens, from wherever they come: more of them tell nothing new and would fill the trail. */
const GUESSES_PER_MINUTE = 60

/** One place for every RPC: who calls, may they, how often, and what the audit trail is told. */
export function guard(deps: {
  catalog: Catalog
  clock: Clock
  audit: Audit
  policy: Readonly<Record<string, RpcRow>>
}): ServerMiddleware<GuardContext> {
  const limiter = new RateLimiter(deps.clock)
  const refusals = new RateLimiter(deps.clock)
  return async function* (call, context) {
    const path = call.method.path
    const row = rowOf(path, deps.policy)
    const told: Told = { subject: path, detail: {}, actor: `anonymous:${peerAddress(context)}` }
    try {
      const agent = await admit(deps, limiter, row, path, context, told)
      const note = (subject: string, detail: Readonly<Record<string, unknown>> = {}) => {
        told.subject = subject
        told.detail = detail
      }
      const result = yield* call.next(call.request, { ...context, agent, note })
      if (row.action) await deps.audit(event(row.action, told, 'done', context))
      return result
    } catch (error) {
      await recordFailure(deps.audit, refusals, row, path, told, context, error)
      throw error
    }
  }
}

interface Told {
  subject: string
  detail: Readonly<Record<string, unknown>>
  actor: string
}

async function admit(
  deps: { catalog: Catalog; clock: Clock },
  limiter: RateLimiter,
  row: RpcRow,
  path: string,
  context: CallContext,
  told: Told,
): Promise<AgentPeer | undefined> {
  const address = peerAddress(context)
  if (row.who !== 'agent') {
    requireRate(limiter, `${path} ${address}`, row)
    return undefined
  }
  const agent = await authenticate(deps, peerCertificate(context), { allowSuperseded: path === RENEW })
  told.actor = `agent:${agent.name}`
  told.subject = agent.name
  requireRate(limiter, `${path} ${agent.agentId}`, row)
  return agent
}

function requireRate(limiter: RateLimiter, name: string, row: RpcRow): void {
  if (limiter.take(name, row.perMinute)) return
  throw new HoldfastError('rate_limited', `more than ${row.perMinute} calls a minute`, { hint: 'Wait a minute and try again.' })
}

function event(action: string, told: Told, outcome: 'done' | 'refused' | 'failed', context: CallContext) {
  return { actor: told.actor, action, subject: told.subject, outcome, detail: { ...told.detail, address: peerAddress(context) } }
}

/** Statuses by which the caller was turned away, as opposed to a fault on the way. */
const REFUSED = new Set([
  'UNAUTHENTICATED',
  'PERMISSION_DENIED',
  'RESOURCE_EXHAUSTED',
  'ALREADY_EXISTS',
  'FAILED_PRECONDITION',
  'INVALID_ARGUMENT',
])

async function recordFailure(
  audit: Audit,
  refusals: RateLimiter,
  row: RpcRow,
  path: string,
  told: Told,
  context: CallContext,
  thrown: unknown,
): Promise<void> {
  if (context.signal.aborted && !isHoldfastError(thrown)) return
  const error = asHoldfastError(thrown)
  const refused = REFUSED.has(ERRORS[error.code].grpc)
  if (!row.action && !refused) return
  // an agent that is turned away comes back every minute for days: the trail would hold nothing else
  if (error.code === 'rate_limited' || !row.action) {
    if (!refusals.take(`${told.actor} ${path} ${error.code}`, REFUSALS_PER_MINUTE, 1)) return
  }
  if (error.code === 'token_invalid' && !refusals.take('guesses', GUESSES_PER_MINUTE)) return
  const action = row.action ?? `rpc${path.replaceAll('/', '.').replace('.holdfast.agent.v1', '')}`
  // an agent that was turned away before it was known as the caller is still what the entry is about
  if (typeof error.context?.agent === 'string') told.subject = error.context.agent
  const base = event(action, told, refused ? 'refused' : 'failed', context)
  await audit({ ...base, detail: { ...base.detail, code: error.code, reason: error.message } })
}
