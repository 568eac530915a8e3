import { Readable } from 'node:stream'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { z } from 'zod'
import type { Clock } from '../../../shared/clock.ts'
import { HoldfastError } from '../../../shared/errors.ts'
import { type Api, callerOf, documented, idempotencyHeaders } from '../app.ts'
import type { KeyRing } from '../authenticate.ts'
import { eventStream } from '../events.ts'
import type { Caller, Operations } from '../operations.ts'
import { cancelBody, forceBody, jobPage, jobParams, jobQuery, jobView, logPage, logQuery } from '../schemas/jobs.ts'
import { visibleJob } from '../scope.ts'

export interface JobRouteOptions {
  readonly operations: Operations
  readonly keys: KeyRing
  readonly clock: Clock
  /** Aborts when the server stops. */
  readonly closing: AbortSignal
}

export function jobRoutes(app: Api, options: JobRouteOptions): void {
  const { operations } = options
  app.get(
    '/api/v1/jobs',
    { schema: documented('jobs', 'listJobs', 'Jobs, newest first', { querystring: jobQuery, response: { 200: jobPage } }) },
    async (request) => operations.listJobs(callerOf(request), request.query, request.query),
  )
  app.get(
    '/api/v1/jobs/:id',
    { schema: documented('jobs', 'getJob', 'One job', { params: jobParams, response: { 200: jobView } }) },
    async (request) => visibleJob(operations, callerOf(request), request.params.id),
  )
  app.post(
    '/api/v1/jobs/:id/cancel',
    {
      schema: documented('jobs', 'cancelJob', 'End a job; it is over within seconds', {
        headers: idempotencyHeaders,
        params: jobParams,
        body: cancelBody,
        response: { 202: jobView },
      }),
    },
    async (request, reply) => {
      const by = callerOf(request)
      await visibleJob(operations, by, request.params.id)
      return reply.code(202).send(await operations.cancelJob(by, request.params.id, request.body.reason))
    },
  )
  app.post(
    '/api/v1/jobs/:id/force',
    {
      schema: documented('jobs', 'forceJob', 'Go on with a lost job although its attempt may still write', {
        headers: idempotencyHeaders,
        params: jobParams,
        body: forceBody,
        response: { 202: jobView },
      }),
    },
    async (request, reply) => {
      const by = callerOf(request)
      await visibleJob(operations, by, request.params.id)
      return reply.code(202).send(await operations.forceJob(by, request.params.id))
    },
  )
  app.get(
    '/api/v1/jobs/:id/logs',
    {
      schema: documented('jobs', 'jobLogs', 'Log lines of a job, oldest first', {
        params: jobParams,
        querystring: logQuery,
        response: { 200: logPage },
      }),
    },
    async (request) => {
      const by = callerOf(request)
      await visibleJob(operations, by, request.params.id)
      return operations.jobLogs(by, request.params.id, request.query)
    },
  )
  eventRoute(app, options)
}

const eventHeaders = z.object({
  'last-event-id': z
    .string()
    .regex(/^\d{1,15}$/)
    .optional()
    .describe('id of the last event that was received'),
})

function eventRoute(app: Api, options: JobRouteOptions): void {
  app.get(
    '/api/v1/jobs/:id/events',
    {
      schema: documented('jobs', 'jobEvents', 'Events of a job as they happen (Server-Sent Events), until it is finished', {
        headers: eventHeaders,
        params: jobParams,
        response: {
          200: { description: 'state, progress, finding, log, end', content: { 'text/event-stream': { schema: z.string() } } },
        },
      }),
    },
    async (request, reply) => {
      const by = callerOf(request)
      const { id } = request.params
      await visibleJob(options.operations, by, id)
      return sendEvents(options, request, reply, { by, id, after: Number(request.headers['last-event-id'] ?? 0) })
    },
  )
}

function sendEvents(
  { operations, keys, clock, closing }: JobRouteOptions,
  request: FastifyRequest,
  reply: FastifyReply,
  { by, id, after }: { by: Caller; id: string; after: number },
): FastifyReply {
  const stop = new AbortController()
  const end = () => stop.abort()
  if (closing.aborted) end()
  closing.addEventListener('abort', end, { once: true })
  reply.raw.once('close', () => {
    closing.removeEventListener('abort', end)
    end()
  })
  const allowed = async () => {
    const now = await keys.current(by.keyId)
    if (now === null) return false
    try {
      await visibleJob(operations, now, id)
      return true
    } catch (error) {
      if (error instanceof HoldfastError && error.code === 'not_found') return false
      throw error
    }
  }
  const events = operations.jobEvents(by, id, { after, signal: stop.signal })
  request.log.debug({ job: id, after }, 'event stream opened')
  return (
    reply
      .type('text/event-stream; charset=utf-8')
      .header('x-accel-buffering', 'no')
      // a server that stops ends the stream; kept alive, the connection would hold it up
      .header('connection', 'close')
      .send(Readable.from(eventStream({ events, allowed, clock, stop })))
  )
}
