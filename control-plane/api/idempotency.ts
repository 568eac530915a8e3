import { createHash } from 'node:crypto'
import canonicalize from 'canonicalize'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { ERRORS, type ErrorCode, HoldfastError } from '../../shared/errors.ts'
import type { IdempotencyState, IdempotencyStore } from '../catalog/idempotency.ts'
import type { Api } from './app.ts'

/**
 * A POST that is sent again with the same `Idempotency-Key` gets the first one's answer, so that a lost reply starts
 * nothing twice. Answers that say "try again" are not kept; neither are secrets: their repetition is refused.
 */

const claimed = new WeakMap<FastifyRequest, { keyId: string; key: string }>()
const replayed = new WeakSet<FastifyRequest>()

/** True for an answer that was given before: it is not done, and not recorded, again. */
export function isReplay(request: FastifyRequest): boolean {
  return replayed.has(request)
}

export function honourIdempotencyKeys(app: Api, store: IdempotencyStore): void {
  app.addHook('preHandler', async (request, reply) => {
    const key = request.headers['idempotency-key']
    if (request.method !== 'POST' || typeof key !== 'string' || !request.caller) return
    const claim = { keyId: request.caller.keyId, key }
    const found = await store.begin({ ...claim, requestSha256: requestHash(request) })
    if (found.state === 'new') claimed.set(request, claim)
    else return answerAgain(found, request, reply)
  })
  app.addHook('onSend', async (request, reply, payload) => {
    const claim = claimed.get(request)
    if (!claim) return
    claimed.delete(request)
    const response: unknown = typeof payload === 'string' && payload !== '' ? JSON.parse(payload) : null
    if (mayChange(reply.statusCode, response)) return store.forget(claim)
    const secret = request.routeOptions.config.access?.answersSecret === true && reply.statusCode < 300
    await store.finish(claim, { status: secret ? 0 : reply.statusCode, response: secret ? null : response })
  })
}

function answerAgain(found: Exclude<IdempotencyState, { state: 'new' }>, request: FastifyRequest, reply: FastifyReply) {
  if (found.state === 'at_work') {
    throw new HoldfastError('conflict', 'a request with this Idempotency-Key is still at work', {
      hint: 'Wait for its answer, or look for what it started in the list of jobs.',
      retry: true,
    })
  }
  if (found.state === 'other_request') {
    throw new HoldfastError('idempotency_mismatch', 'this Idempotency-Key was used for another request', {
      hint: 'Use a new key for each request; send the same one only to repeat the same request.',
    })
  }
  if (found.status === 0) {
    throw new HoldfastError('already_exists', 'this request was done, and its secret is shown only once', {
      hint: 'Revoke what the first request made and ask again with a new Idempotency-Key.',
    })
  }
  replayed.add(request)
  reply.code(found.status).header('idempotent-replayed', 'true')
  reply.type(found.status < 400 ? 'application/json; charset=utf-8' : 'application/problem+json')
  return reply.send(JSON.stringify(found.response))
}

/** What the same request may answer differently a moment later, by the error table's own advice. */
function mayChange(status: number, response: unknown): boolean {
  if (status >= 500) return true
  if (status < 400) return false
  const code = (response as { code?: unknown } | null)?.code
  return typeof code === 'string' && code in ERRORS && ERRORS[code as ErrorCode].retry
}

function requestHash(request: FastifyRequest): Buffer {
  const body = canonicalize(request.body ?? null) ?? 'null'
  return createHash('sha256').update(`${request.method} ${request.url}\n${body}`).digest()
}
