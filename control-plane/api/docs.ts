import fastifySwagger from '@fastify/swagger'
import scalar from '@scalar/fastify-api-reference'
import { jsonSchemaTransform, jsonSchemaTransformObject } from 'fastify-type-provider-zod'
import { HoldfastError } from '../../shared/errors.ts'
import type { Api } from './app.ts'

/** The page loads nothing from elsewhere; the policy makes the browser see to it. */
const PAGE_POLICY =
  "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; frame-ancestors 'none'"

const DESCRIPTION = `Back up and restore a whole fleet of data stores from one place.

Names are snake_case, times RFC 3339 in UTC, sizes bytes, durations seconds. Lists are \`{"items": [...], "next_cursor": null}\`.
What takes long answers 202 with its job; its events stream at \`/api/v1/jobs/{id}/events\`. Errors are problems as of RFC 9457
with a \`code\` to match on and a \`hint\` that says what to do.`

/** OpenAPI 3.1 at /openapi.json, made from the routes; browsable at /docs without the internet. */
export async function serveDocs(app: Api, version: string): Promise<void> {
  await app.register(fastifySwagger, {
    openapi: {
      openapi: '3.1.0',
      info: { title: 'Holdfast', version, description: DESCRIPTION, license: { name: 'Apache-2.0', identifier: 'Apache-2.0' } },
      servers: [{ url: '/' }],
      components: {
        securitySchemes: {
          api_key: { type: 'apiKey', in: 'header', name: 'Authorization', description: 'ApiKey hfk_...' },
        },
      },
      security: [{ api_key: [] }],
    },
    transform: jsonSchemaTransform,
    transformObject: (document) => withoutUnused(jsonSchemaTransformObject(document)),
  })
  app.get('/openapi.json', { schema: { hide: true } }, async () => app.swagger())
  await app.register(scalar, {
    routePrefix: '/docs',
    configuration: { url: '/openapi.json', withDefaultFonts: false, telemetry: false, hideClientButton: true },
    hooks: {
      onRequest: (request, reply, done) => {
        reply.header('content-security-policy', PAGE_POLICY)
        // the page's own routes make a URL of it and would fail
        if (URL.canParse(`http://${request.hostname}`)) return done()
        done(new HoldfastError('invalid_argument', 'the Host header is not a host name'))
      },
    },
  })
}

/**
 * The transform writes each named schema twice, as sent (`StartBackupInput`) and as answered. Only what a route refers to
 * stays, and it goes by its plain name when there is one of it.
 */
function withoutUnused<Document extends object>(document: Document): Document {
  const { components, ...rest } = document as { components?: { schemas?: Record<string, unknown> } }
  const schemas = components?.schemas ?? {}
  const used = new Set<string>()
  const visit = (value: unknown): void => {
    for (const [, name = ''] of JSON.stringify(value).matchAll(/"#\/components\/schemas\/(\w+)"/g)) {
      if (used.has(name)) continue
      used.add(name)
      visit(schemas[name])
    }
  }
  visit(rest)
  const plain = (name: string) => (name.endsWith('Input') && !used.has(name.slice(0, -5)) ? name.slice(0, -5) : name)
  const kept = Object.fromEntries([...used].sort().map((name) => [plain(name), schemas[name]]))
  const text = JSON.stringify({ ...rest, components: { ...components, schemas: kept } })
  return JSON.parse(text.replace(/(?<="#\/components\/schemas\/)\w+(?=")/g, plain))
}
