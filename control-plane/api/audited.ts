import type { FastifyReply, FastifyRequest } from 'fastify'
import type { AuditEvent } from '../domain/audit-chain.ts'
import type { Api } from './app.ts'
import { isReplay } from './idempotency.ts'
import { actorOf } from './operations.ts'
import { problemText } from './problems.ts'

/** Records one event; in a transaction of its own, because what was refused is recorded although everything else rolled back. */
export type RecordAudit = (event: AuditEvent) => Promise<void>

/** Longest request body that is kept in the trail as it was sent. */
const MAX_REQUEST_CHARACTERS = 4000

/**
 * Records before the answer leaves: every call of a route with an action, and every refusal of any route. An answer that
 * cannot be recorded is not given.
 */
export function recordInAudit(app: Api, record: RecordAudit): void {
  app.addHook('onSend', async (request, reply, payload) => {
    const action = actionOf(request, reply)
    if (action === null || isReplay(request)) return
    try {
      await record({
        actor: request.caller ? actorOf(request.caller) : `anonymous:${request.ip}`,
        action,
        subject: subjectOf(request),
        outcome: outcomeOf(reply.statusCode),
        detail: { address: request.ip, status: reply.statusCode, ...problemCode(reply, payload), ...asked(request) },
      })
    } catch (error) {
      // in the answer's place, not thrown: of what is thrown while a problem is sent the framework shows the text, statements and all
      return problemText(error, request, reply)
    }
  })
}

function actionOf(request: FastifyRequest, reply: FastifyReply): string | null {
  const { access } = request.routeOptions.config
  if (!access) return null
  if (access.action !== null && reply.statusCode !== 429) return access.action
  const refused = reply.statusCode === 401 || reply.statusCode === 403
  return refused ? `${request.method} ${request.routeOptions.url ?? ''}` : null
}

function outcomeOf(status: number): AuditEvent['outcome'] {
  if (status < 400) return 'done'
  return status < 500 ? 'refused' : 'failed'
}

function subjectOf(request: FastifyRequest): string {
  const params = (request.params ?? {}) as { id?: string; host?: string; name?: string }
  const body = (request.body ?? {}) as { name?: unknown; sources?: unknown; all?: unknown; recipient?: unknown }
  if (params.host !== undefined) return `${params.host}/${params.name}`.slice(0, 200)
  const named = [params.id, params.name, body.name, body.recipient].find((value) => typeof value === 'string')
  if (typeof named === 'string') return named.slice(0, 200)
  if (Array.isArray(body.sources)) return body.sources.join(',').slice(0, 200)
  return body.all === true ? 'all' : '-'
}

function problemCode(reply: FastifyReply, payload: unknown): { code?: unknown } {
  if (reply.statusCode < 400 || typeof payload !== 'string') return {}
  return { code: (JSON.parse(payload) as { code?: unknown }).code }
}

/** No body of this API holds a secret; only of callers we know, so that strangers cannot fill the trail. */
function asked(request: FastifyRequest): { request?: unknown } {
  if (!request.caller || !request.body) return {}
  const kept = request.routeOptions.config.access?.keepsOfBody
  const body = kept ? Object.fromEntries(Object.entries(request.body).filter(([name]) => kept.includes(name))) : request.body
  const text = JSON.stringify(body)
  return { request: text.length <= MAX_REQUEST_CHARACTERS ? body : `${text.slice(0, MAX_REQUEST_CHARACTERS)} ...` }
}
