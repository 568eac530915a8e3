import { type Api, callerOf, documented, idempotencyHeaders } from '../app.ts'
import { requireRole } from '../authenticate.ts'
import type { Operations } from '../operations.ts'
import {
  agentPage,
  agentParams,
  agentQuery,
  agentView,
  invitationView,
  inviteBody,
  revokeBody,
  sourcePage,
  sourceParams,
  sourceQuery,
  sourceView,
} from '../schemas/agents.ts'
import { jobView } from '../schemas/jobs.ts'
import { requireSources } from '../scope.ts'

export function agentRoutes(app: Api, operations: Operations): void {
  app.get(
    '/api/v1/agents',
    {
      schema: documented('agents', 'listAgents', 'Hosts that enrolled', {
        querystring: agentQuery,
        response: { 200: agentPage },
      }),
    },
    async (request) => operations.listAgents(callerOf(request), request.query, request.query),
  )
  app.post(
    '/api/v1/agents/invitations',
    {
      schema: documented('agents', 'inviteAgent', 'A token with which one host can enrol, once', {
        headers: idempotencyHeaders,
        body: inviteBody,
        response: { 201: invitationView },
      }),
    },
    async (request, reply) => {
      const by = callerOf(request)
      // it takes an identity away, as revoking does
      if (request.body.replace) requireRole(by, 'admin')
      return reply.code(201).send(await operations.inviteAgent(by, request.body))
    },
  )
  app.post(
    '/api/v1/agents/:name/revoke',
    {
      schema: documented(
        'agents',
        'revokeAgent',
        'Refuse an agent from now on; its backups remain, and addresses it was given work for at most 15 minutes more',
        {
          headers: idempotencyHeaders,
          params: agentParams,
          body: revokeBody,
          response: { 200: agentView },
        },
      ),
    },
    async (request) => operations.revokeAgent(callerOf(request), request.params.name, request.body.reason),
  )
  app.post(
    '/api/v1/agents/:name/discover',
    {
      schema: documented('agents', 'discover', 'Look what is on a host that could be backed up', {
        headers: idempotencyHeaders,
        params: agentParams,
        response: { 202: jobView },
      }),
    },
    async (request, reply) => {
      const job = await operations.discover(callerOf(request), request.params.name)
      return reply.code(202).header('location', `/api/v1/jobs/${job.id}`).send(job)
    },
  )
  app.get(
    '/api/v1/sources',
    {
      schema: documented('agents', 'listSources', 'What agents can back up', {
        querystring: sourceQuery,
        response: { 200: sourcePage },
      }),
    },
    async (request) => operations.listSources(callerOf(request), request.query, request.query),
  )
  app.post(
    '/api/v1/sources/:host/:name/accept-fall',
    {
      schema: documented('agents', 'acceptFall', 'A sharp fall in size or counts is as it should be: retention goes on', {
        headers: idempotencyHeaders,
        params: sourceParams,
        response: { 200: sourceView },
      }),
    },
    async (request) => {
      const by = callerOf(request)
      const source = `${request.params.host}/${request.params.name}`
      requireSources(by, source)
      return operations.acceptFall(by, source)
    },
  )
}
