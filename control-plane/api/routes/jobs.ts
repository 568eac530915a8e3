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
import { lockedKeysView, unlockBody } from '../schemas/unlock.ts'
import { visibleBackup, visibleJob } from '../scope.ts'

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
  unlockRoutes(app, operations)
  eventRoute(app, options)
}

/** Bodies of a thousand small files. */
const MAX_UNLOCK_BYTES = 16 * 1024 * 1024

function unlockRoutes(app: Api, operations: Operations): void {
  /** Who may use the place that a job writes may not therefore open every backup. */
  const visible = async (by: Caller, id: string) => {
    const job = await visibleJob(operations, by, id)
    if (job.backup_id !== null) await visibleBackup(operations, by, job.backup_id)
  }
  app.get(
    '/api/v1/jobs/:id/unlock',
    {
      schema: documented('jobs', 'lockedKeys', 'Sealed key files of what a job reads, and the key to seal them to', {
        params: jobParams,
        response: { 200: lockedKeysView },
      }),
    },
    async (request) => {
      const by = callerOf(request)
      await visible(by, request.params.id)
      return operations.lockedKeys(by, request.params.id)
    },
  )
  app.post(
    '/api/v1/jobs/:id/unlock',
    {
      bodyLimit: MAX_UNLOCK_BYTES,
      schema: documented('jobs', 'unlockJob', 'Give a job data keys that were sealed to its key', {
        headers: idempotencyHeaders,
        params: jobParams,
        body: unlockBody,
        response: { 202: jobView },
      }),
    },
    async (request, reply) => {
      const by = callerOf(request)
      await visible(by, request.params.id)
      return reply.code(202).send(await operations.unlockJob(by, request.params.id, request.body))
    },
  )
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
