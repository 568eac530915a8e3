import { z } from 'zod'
import { type Api, callerOf, documented, idempotencyHeaders } from '../app.ts'
import type { Operations } from '../operations.ts'
import { statusView, systemTestView } from '../schemas/system.ts'

export interface SystemRouteOptions {
  readonly operations: Operations
  ready(): Promise<void>
  metrics(): Promise<{ contentType: string; body: string }>
}

export function systemRoutes(app: Api, { operations, ready, metrics }: SystemRouteOptions): void {
  const alive = z.object({ status: z.literal('ok') })
  app.get(
    '/healthz',
    { schema: { ...documented('system', 'health', 'The program runs', { response: { 200: alive } }), security: [] } },
    async () => ({ status: 'ok' as const }),
  )
  app.get(
    '/readyz',
    { schema: { ...documented('system', 'ready', 'The program can do its work', { response: { 200: alive } }), security: [] } },
    async () => {
      await ready()
      return { status: 'ok' as const }
    },
  )
  app.get(
    '/metrics',
    {
      schema: documented('system', 'metrics', 'For Prometheus', {
        response: { 200: { description: 'text exposition format', content: { 'text/plain': { schema: z.string() } } } },
      }),
    },
    async (_request, reply) => {
      const { contentType, body } = await metrics()
      return reply
        .type(contentType)
        .serializer((text: unknown) => String(text))
        .send(body)
    },
  )
  app.post(
    '/api/v1/system/test',
    {
      schema: documented('system', 'systemTest', 'Is everything that a backup needs in order?', {
        headers: idempotencyHeaders,
        response: { 200: systemTestView },
      }),
    },
    async (request) => operations.systemTest(callerOf(request)),
  )
  app.get(
    '/api/v1/status',
    { schema: documented('system', 'status', 'What is protected and what is not', { response: { 200: statusView } }) },
    async (request) => operations.status(callerOf(request)),
  )
}
