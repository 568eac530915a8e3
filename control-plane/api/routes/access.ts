import { type Api, callerOf, documented, idempotencyHeaders } from '../app.ts'
import type { Operations } from '../operations.ts'
import {
  apiKeyPage,
  apiKeyParams,
  apiKeyView,
  auditCheckView,
  auditPage,
  auditQuery,
  createApiKeyBody,
  newApiKeyView,
} from '../schemas/access.ts'
import { listQuery } from '../schemas/fleet.ts'
import { addRecoveryBody, fleetKeysView } from '../schemas/system.ts'

export function accessRoutes(app: Api, operations: Operations): void {
  app.get(
    '/api/v1/api-keys',
    {
      schema: documented('access', 'listApiKeys', 'Keys of operators', { querystring: listQuery, response: { 200: apiKeyPage } }),
    },
    async (request) => operations.listApiKeys(callerOf(request), request.query),
  )
  app.post(
    '/api/v1/api-keys',
    {
      schema: documented('access', 'createApiKey', 'A new key, shown once', {
        headers: idempotencyHeaders,
        body: createApiKeyBody,
        response: { 201: newApiKeyView },
      }),
    },
    async (request, reply) => reply.code(201).send(await operations.createApiKey(callerOf(request), request.body)),
  )
  app.delete(
    '/api/v1/api-keys/:id',
    {
      schema: documented('access', 'revokeApiKey', 'Refuse a key from now on', {
        params: apiKeyParams,
        response: { 200: apiKeyView },
      }),
    },
    async (request) => operations.revokeApiKey(callerOf(request), request.params.id),
  )
  app.get(
    '/api/v1/keys',
    {
      schema: documented('access', 'fleetKeys', 'What recovery without a control plane needs to know', {
        response: { 200: fleetKeysView },
      }),
    },
    async (request) => operations.fleetKeys(callerOf(request)),
  )
  app.post(
    '/api/v1/keys/recovery',
    {
      schema: documented('access', 'addRecovery', 'Seal backups to one more recovery recipient from now on', {
        headers: idempotencyHeaders,
        body: addRecoveryBody,
        response: { 200: fleetKeysView },
      }),
    },
    async (request) => operations.addRecovery(callerOf(request), request.body),
  )
  app.get(
    '/api/v1/audit',
    {
      schema: documented('access', 'listAudit', 'The audit trail, newest first', {
        querystring: auditQuery,
        response: { 200: auditPage },
      }),
    },
    async (request) => operations.listAudit(callerOf(request), request.query, request.query),
  )
  app.get(
    '/api/v1/audit/verify',
    { schema: documented('access', 'verifyAudit', 'Check the chain of the audit trail', { response: { 200: auditCheckView } }) },
    async (request) => operations.verifyAudit(callerOf(request)),
  )
}
