import { type Api, callerOf, documented, idempotencyHeaders } from '../app.ts'
import type { Operations } from '../operations.ts'
import { fleetBody, fleetDiffView, listQuery, policyPage, targetPage } from '../schemas/fleet.ts'

export function fleetRoutes(app: Api, operations: Operations): void {
  app.get(
    '/api/v1/targets',
    {
      schema: documented('fleet', 'listTargets', 'Where backups lie', { querystring: listQuery, response: { 200: targetPage } }),
    },
    async (request) => operations.listTargets(callerOf(request), request.query),
  )
  app.get(
    '/api/v1/policies',
    {
      schema: documented('fleet', 'listPolicies', 'What is backed up when, and how long it is kept', {
        querystring: listQuery,
        response: { 200: policyPage },
      }),
    },
    async (request) => operations.listPolicies(callerOf(request), request.query),
  )
  app.post(
    '/api/v1/fleet/diff',
    {
      schema: documented('fleet', 'diffFleet', 'What applying a fleet file would change', {
        headers: idempotencyHeaders,
        body: fleetBody,
        response: { 200: fleetDiffView },
      }),
    },
    async (request) => operations.diffFleet(callerOf(request), request.body),
  )
  app.put(
    '/api/v1/fleet',
    {
      schema: documented('fleet', 'applyFleet', 'Make targets and policies as the fleet file says', {
        body: fleetBody,
        response: { 200: fleetDiffView },
      }),
    },
    async (request) => operations.applyFleet(callerOf(request), request.body),
  )
}
