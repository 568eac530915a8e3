import { STATUS_CODES } from 'node:http'
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify'
import { hasZodFastifySchemaValidationErrors } from 'fastify-type-provider-zod'
import { asHoldfastError, ERRORS, HoldfastError } from '../../shared/errors.ts'
import type { ProblemView } from './schemas/common.ts'

/** The one place where errors become HTTP problems (RFC 9457). */

export function problemOf(error: unknown, path: string): ProblemView {
  const known = isFrameworkError(error) ? fromFramework(error) : { error: asHoldfastError(error) }
  const { code, message, hint, retry } = known.error
  const status = known.status ?? ERRORS[code].http
  // the text of an unforeseen error may hold anything: it goes to the log only
  const hidden = code === 'internal'
  return {
    type: `urn:holdfast:error:${code}`,
    title: STATUS_CODES[status] ?? 'Error',
    status,
    detail: hidden ? 'the control plane failed' : message,
    code,
    ...(hidden ? { hint: "Look for the request's id in the log of the control plane." } : hint === undefined ? {} : { hint }),
    retry,
    instance: path.slice(0, 500),
  }
}

export function sendProblem(error: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  return reply.send(problemText(error, request, reply))
}

/** The body of the answer, whose status and headers are set. */
export function problemText(error: unknown, request: FastifyRequest, reply: FastifyReply): string {
  const problem = problemOf(error, request.url.split('?')[0] ?? '')
  if (problem.status >= 500) request.log.error({ err: error, request_id: request.id }, 'request failed')
  if (problem.status === 401) reply.header('www-authenticate', 'ApiKey realm="holdfast"')
  // a string, so that no serializer of the route is asked
  reply.code(problem.status).type('application/problem+json')
  return JSON.stringify(problem)
}

export function noRoute(request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const path = request.url.split('?')[0] ?? ''
  const error = new HoldfastError('not_found', `there is no route ${request.method} ${path.slice(0, 200)}`, {
    hint: 'See /docs for the routes there are.',
  })
  return sendProblem(error, request, reply)
}

function isFrameworkError(error: unknown): error is FastifyError {
  return error instanceof Error && !(error instanceof HoldfastError) && typeof (error as FastifyError).statusCode === 'number'
}

/** Refusals of fastify itself (media type, size, malformed JSON or URL) and of the schemas. */
function fromFramework(error: FastifyError): { error: HoldfastError; status?: number } {
  if (hasZodFastifySchemaValidationErrors(error)) {
    const where = error.validationContext ?? 'request'
    const lines = error.validation.slice(0, 5).map((issue) => {
      const at = issue.instancePath.replaceAll('/', '.').slice(0, 200)
      return `${where}${at}: ${(issue.message ?? 'not allowed').slice(0, 300)}`
    })
    return { error: new HoldfastError('invalid_argument', lines.join('; '), { hint: 'See /docs for what is accepted.' }) }
  }
  const status = error.statusCode ?? 500
  if (status === 503) {
    return { error: new HoldfastError('agent_offline', 'the control plane is stopping', { retry: true }), status }
  }
  if (status >= 500) return { error: asHoldfastError(error) }
  const code = status === 413 ? 'too_large' : status === 429 ? 'rate_limited' : 'invalid_argument'
  return { error: new HoldfastError(code, error.message.slice(0, 300), { hint: 'See /docs for what is accepted.' }), status }
}
