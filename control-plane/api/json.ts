import { HoldfastError } from '../../shared/errors.ts'
import type { Api } from './app.ts'

const MAX_DEPTH = 30

/**
 * Bodies are JSON or nothing. NUL and lone surrogates are refused everywhere, keys included: PostgreSQL's text and
 * jsonb cannot hold them, so that they would come back as a failure of ours. No body on a route that takes one counts as `{}`.
 */
export function acceptJson(app: Api): void {
  const parse = app.getDefaultJsonParser('error', 'error')
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('application/json', { parseAs: 'string' }, (request, body, done) => {
    if (body === '') return done(null, undefined)
    void parse(request, body as string, (error, value) => {
      if (error) return done(error)
      try {
        requirePlain(value, 0)
      } catch (refusal) {
        return done(refusal as Error)
      }
      done(null, value)
    })
  })
  app.addHook('preValidation', async (request) => {
    if (request.body === undefined && request.routeOptions.schema?.body) request.body = {}
  })
}

function requirePlain(value: unknown, depth: number): void {
  if (typeof value === 'string') requireText(value)
  if (typeof value !== 'object' || value === null) return
  if (depth >= MAX_DEPTH) throw refused(`is nested more than ${MAX_DEPTH} deep`)
  for (const [key, inner] of Object.entries(value)) {
    requireText(key)
    requirePlain(inner, depth + 1)
  }
}

function requireText(text: string): void {
  if (text.includes('\u0000')) throw refused('holds a NUL character')
  if (!text.isWellFormed()) throw refused('holds half of a surrogate pair')
}

function refused(why: string): HoldfastError {
  return new HoldfastError('invalid_argument', `the body ${why}`, { hint: 'Send plain JSON as /docs describes it.' })
}
