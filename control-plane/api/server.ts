import type { Server } from 'node:http'
import fastifyRateLimit from '@fastify/rate-limit'
import fastify, {
  type FastifyBaseLogger,
  type FastifyHttpOptions,
  type FastifyReply,
  type FastifyRequest,
  LogController,
  type RouteOptions,
} from 'fastify'
import { serializerCompiler, validatorCompiler } from 'fastify-type-provider-zod'
import type { Clock } from '../../shared/clock.ts'
import { HoldfastError, isHoldfastError } from '../../shared/errors.ts'
import type { Logger } from '../../shared/log.ts'
import type { Secret } from '../../shared/secret.ts'
import type { IdempotencyStore } from '../catalog/idempotency.ts'
import { ACCESS, type RouteAccess } from './access.ts'
import type { Api } from './app.ts'
import { type RecordAudit, recordInAudit } from './audited.ts'
import { authorize, type KeyRing } from './authenticate.ts'
import { serveDocs } from './docs.ts'
import { honourIdempotencyKeys } from './idempotency.ts'
import { acceptJson } from './json.ts'
import type { Operations } from './operations.ts'
import { noRoute, problemOf, sendProblem } from './problems.ts'
import { accessRoutes } from './routes/access.ts'
import { agentRoutes } from './routes/agents.ts'
import { backupRoutes } from './routes/backups.ts'
import { fleetRoutes } from './routes/fleet.ts'
import { jobRoutes } from './routes/jobs.ts'
import { systemRoutes } from './routes/system.ts'

export interface ApiOptions {
  readonly operations: Operations
  readonly keys: KeyRing
  readonly audit: RecordAudit
  readonly idempotency: IdempotencyStore
  readonly clock: Clock
  readonly log: Logger
  readonly version: string
  /** Throws with what is missing while the program cannot do its work. */
  ready(): Promise<void>
  metrics(): Promise<{ contentType: string; body: string }>
  /** Metrics name the sources. */
  readonly whoScrapes: 'anyone' | 'viewer'
  readonly tls?: { readonly cert: string; readonly key: Secret }
  readonly access?: Readonly<Record<string, RouteAccess>>
}

const MAX_BODY_BYTES = 1024 * 1024
const MAX_HEADER_BYTES = 16 * 1024
/** Calls without the right to them that an address may make in a minute: each is recorded in the audit trail. */
const MAX_REFUSED_A_MINUTE = 30

/** The operator's API, not listening yet: `listen` or `inject` it; `close` ends open event streams. */
export async function createApi(options: ApiOptions): Promise<Api> {
  const app = newServer(options)
  app.setValidatorCompiler(validatorCompiler)
  app.setSerializerCompiler(serializerCompiler)
  app.setErrorHandler(sendProblem)
  app.setNotFoundHandler(noRoute)
  app.decorateRequest('caller', null)
  acceptJson(app)
  requireRows(app, options.access ?? ACCESS)
  await app.register(fastifyRateLimit, {
    global: false,
    errorResponseBuilder: (_request, context) =>
      new HoldfastError('rate_limited', `more than ${context.max} such requests in a minute`, {
        hint: `Wait ${context.after} and try again.`,
      }),
  })
  guard(app, options)
  honourIdempotencyKeys(app, options.idempotency)
  recordInAudit(app, options.audit)
  await serveDocs(app, options.version)
  const closing = new AbortController()
  app.addHook('preClose', async () => closing.abort())
  await app.register(async (scope) => {
    const routes = scope as unknown as Api
    backupRoutes(routes, options.operations)
    jobRoutes(routes, { ...options, closing: closing.signal })
    agentRoutes(routes, options.operations)
    fleetRoutes(routes, options.operations)
    accessRoutes(routes, options.operations)
    systemRoutes(routes, options)
  })
  return app
}

function newServer({ tls, log }: ApiOptions): Api {
  const shared: FastifyHttpOptions<Server> = {
    loggerInstance: log as FastifyBaseLogger,
    // method, path and status are in the audit trail and the metrics; addresses may hold what is not for logs
    logController: new LogController({ disableRequestLogging: true }),
    exposeHeadRoutes: false,
    bodyLimit: MAX_BODY_BYTES,
    requestTimeout: 30_000,
    // a connection that is kept for its next request delays a stop by this much at most
    keepAliveTimeout: 5_000,
    http: { maxHeaderSize: MAX_HEADER_BYTES },
    routerOptions: { maxParamLength: 200 },
    // a URL that cannot be decoded never reaches a route
    frameworkErrors: (error, request, reply) => sendProblem(error, request as FastifyRequest, reply as unknown as FastifyReply),
    clientErrorHandler(error, socket) {
      if (error.code === 'ECONNRESET' || !socket.writable) return
      socket.end(malformedAnswer(error.code))
    },
  }
  if (!tls) return fastify(shared) as unknown as Api
  const https = { cert: tls.cert, key: tls.key.reveal(), minVersion: 'TLSv1.2', maxHeaderSize: MAX_HEADER_BYTES } as const
  return fastify({ ...(shared as object), https }) as unknown as Api
}

/** What is not even HTTP gets a problem too, and the connection is closed. */
function malformedAnswer(code: string | undefined): string {
  const [status, title] = code === 'HPE_HEADER_OVERFLOW' ? [431, 'Request Header Fields Too Large'] : [400, 'Bad Request']
  const error = new HoldfastError('invalid_argument', 'the request is not HTTP that this server accepts')
  const body = JSON.stringify({ ...problemOf(error, ''), status, title })
  return [
    `HTTP/1.1 ${status} ${title}`,
    'content-type: application/problem+json',
    `content-length: ${Buffer.byteLength(body)}`,
    'connection: close',
    '',
    body,
  ].join('\r\n')
}

/** Gives each route its row, and with it its limit; refuses to start with a route that has none. */
function requireRows(app: Api, table: Readonly<Record<string, RouteAccess>>): void {
  app.addHook('onRoute', (route: RouteOptions) => {
    const name = `${String(route.method)} ${route.url}`
    const row = table[name]
    if (!row) throw new HoldfastError('internal', `the route ${name} has no row in api/access.ts`)
    route.config = {
      ...route.config,
      access: row,
      rateLimit: {
        max: row.perMinute,
        timeWindow: '1 minute',
        hook: 'preValidation',
        keyGenerator: (request: FastifyRequest) => request.caller?.keyId ?? request.ip,
      },
    }
  })
}

function guard(app: Api, options: ApiOptions): void {
  const refusals = app.createRateLimit({
    max: MAX_REFUSED_A_MINUTE,
    timeWindow: '1 minute',
    keyGenerator: (request) => `refused ${request.ip}`,
  })
  app.addHook('onRequest', async (request) => {
    const row = request.routeOptions.config.access
    if (!row) return
    try {
      await authorize(request, row, options.keys, options.whoScrapes)
    } catch (error) {
      if (!isHoldfastError(error, 'unauthenticated') && !isHoldfastError(error, 'forbidden')) throw error
      const tries = await refusals(request)
      if (!tries.isAllowed && tries.isExceeded)
        throw new HoldfastError('rate_limited', 'too many requests without the right to them')
      throw error
    }
  })
  // nothing here is for caches, frames or guesses at the type
  app.addHook('onSend', async (_request, reply) => {
    reply.header('x-content-type-options', 'nosniff')
    if (!reply.hasHeader('cache-control')) reply.header('cache-control', 'no-store')
  })
}
