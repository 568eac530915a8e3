import type { IncomingMessage, ServerResponse } from 'node:http'
import type { FastifyBaseLogger, FastifyInstance, FastifyRequest, RawServerDefault } from 'fastify'
import type { ZodTypeProvider } from 'fastify-type-provider-zod'
import { z } from 'zod'
import { HoldfastError } from '../../shared/errors.ts'
import type { RouteAccess } from './access.ts'
import type { Caller } from './operations.ts'
import { problemView } from './schemas/common.ts'

export type Api = FastifyInstance<RawServerDefault, IncomingMessage, ServerResponse, FastifyBaseLogger, ZodTypeProvider>

declare module 'fastify' {
  interface FastifyContextConfig {
    access?: RouteAccess
  }
  interface FastifyRequest {
    /** Set once the key was found; null on routes for anyone. */
    caller: Caller | null
  }
}

/** The caller of a route that is not for anyone. */
export function callerOf(request: FastifyRequest): Caller {
  if (request.caller) return request.caller
  throw new HoldfastError('internal', 'a route that needs a caller is open to anyone')
}

type Tag = 'backups' | 'jobs' | 'agents' | 'fleet' | 'access' | 'system'

/** What a route says of itself in the OpenAPI document, its refusals included. */
export function documented<Schema extends { response: Record<number, unknown> }>(
  tag: Tag,
  operationId: string,
  summary: string,
  schema: Schema,
) {
  const problem = { description: 'Refused', content: { 'application/problem+json': { schema: problemView } } }
  return {
    ...schema,
    operationId,
    summary,
    tags: [tag],
    response: { ...schema.response, '4xx': problem, '5xx': { ...problem, description: 'Failed' } } as Schema['response'],
  }
}

/** Honoured on every POST (idempotency.ts). */
export const idempotencyHeaders = z.object({
  'idempotency-key': z
    .string()
    .regex(/^[\x21-\x7e]{1,200}$/)
    .optional()
    .describe('the same key with the same request gets the same answer for 24 hours'),
})
