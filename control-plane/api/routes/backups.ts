import { type Api, callerOf, documented, idempotencyHeaders } from '../app.ts'
import type { Operations } from '../operations.ts'
import {
  type BackupView,
  backupPage,
  backupParams,
  backupQuery,
  backupView,
  cleanupBody,
  cleanupView,
  startBackupBody,
  startedBackups,
  startRestoreBody,
  startTestRestoreBody,
  startVerifyBody,
  validationView,
} from '../schemas/backups.ts'
import { jobView } from '../schemas/jobs.ts'
import { requireSources, visibleBackup } from '../scope.ts'

export function backupRoutes(app: Api, operations: Operations): void {
  app.post(
    '/api/v1/backups',
    {
      schema: documented('backups', 'startBackup', 'Back up one source, several, or all', {
        headers: idempotencyHeaders,
        body: startBackupBody,
        response: { 202: startedBackups },
      }),
    },
    async (request, reply) => {
      const by = callerOf(request)
      const { body } = request
      requireSources(by, ...(body.sources ?? []))
      const jobs = await operations.startBackup(by, body)
      reply.code(202)
      const [only] = jobs
      // decided by the request alone, so that a client knows which it gets
      if (only && !body.all && (body.sources?.length ?? 1) === 1)
        return reply.header('location', `/api/v1/jobs/${only.id}`).send(only)
      return reply.send({ items: jobs, next_cursor: null })
    },
  )
  app.get(
    '/api/v1/backups',
    {
      schema: documented('backups', 'listBackups', 'Backups, newest first', {
        querystring: backupQuery,
        response: { 200: backupPage },
      }),
    },
    async (request) => operations.listBackups(callerOf(request), request.query, request.query),
  )
  app.get(
    '/api/v1/backups/:id',
    { schema: documented('backups', 'getBackup', 'One backup', { params: backupParams, response: { 200: backupView } }) },
    async (request) => visibleBackup(operations, callerOf(request), request.params.id),
  )
  app.delete(
    '/api/v1/backups/:id',
    {
      schema: documented('backups', 'deleteBackup', 'Remove a backup that nothing leans on', {
        params: backupParams,
        response: { 200: backupView },
      }),
    },
    async (request) => {
      const by = callerOf(request)
      await visibleBackup(operations, by, request.params.id)
      return operations.deleteBackup(by, request.params.id)
    },
  )
  pinRoutes(app, operations)
  workRoutes(app, operations)
  checkRoutes(app, operations)
  cleanupRoutes(app, operations)
}

function pinRoutes(app: Api, operations: Operations): void {
  for (const pinned of [true, false]) {
    const [method, id, summary] = pinned
      ? (['PUT', 'pinBackup', 'Keep a backup whatever retention says'] as const)
      : (['DELETE', 'unpinBackup', 'Leave a backup to retention again'] as const)
    app.route({
      method,
      url: '/api/v1/backups/:id/pin',
      schema: documented('backups', id, summary, { params: backupParams, response: { 200: backupView } }),
      handler: async (request) => {
        const by = callerOf(request)
        await visibleBackup(operations, by, request.params.id)
        return operations.pinBackup(by, request.params.id, pinned)
      },
    })
  }
}

function workRoutes(app: Api, operations: Operations): void {
  app.post(
    '/api/v1/backups/:id/restore',
    {
      schema: documented('backups', 'startRestore', 'Restore a backup, or show what that would do', {
        headers: idempotencyHeaders,
        params: backupParams,
        body: startRestoreBody,
        response: { 202: jobView },
      }),
    },
    async (request, reply) => {
      const by = callerOf(request)
      const backup = await visibleBackup(operations, by, request.params.id)
      const target = targetOf(backup, request.body.target)
      requireSources(by, target, request.body.via)
      const job = await operations.startRestore(by, request.params.id, { ...request.body, target })
      return reply.code(202).header('location', `/api/v1/jobs/${job.id}`).send(job)
    },
  )
  app.post(
    '/api/v1/backups/:id/verify',
    {
      schema: documented('backups', 'startVerify', 'Read every byte of a backup back and compare', {
        headers: idempotencyHeaders,
        params: backupParams,
        body: startVerifyBody,
        response: { 202: jobView },
      }),
    },
    async (request, reply) => {
      const by = callerOf(request)
      await visibleBackup(operations, by, request.params.id)
      const job = await operations.startVerify(by, request.params.id, request.body)
      return reply.code(202).header('location', `/api/v1/jobs/${job.id}`).send(job)
    },
  )
  app.post(
    '/api/v1/backups/:id/test-restore',
    {
      schema: documented('backups', 'startTestRestore', 'Restore into a throw-away place and compare counts', {
        headers: idempotencyHeaders,
        params: backupParams,
        body: startTestRestoreBody,
        response: { 202: jobView },
      }),
    },
    async (request, reply) => {
      const by = callerOf(request)
      requireSources(by, request.body.via)
      await visibleBackup(operations, by, request.params.id)
      const job = await operations.startTestRestore(by, request.params.id, request.body)
      return reply.code(202).header('location', `/api/v1/jobs/${job.id}`).send(job)
    },
  )
}

function checkRoutes(app: Api, operations: Operations): void {
  app.get(
    '/api/v1/backups/:id/validate',
    {
      schema: documented('backups', 'validateBackup', 'Check presence, checksums, signature and samples, now when it is quick', {
        params: backupParams,
        response: { 200: validationView, 202: jobView },
      }),
    },
    async (request, reply) => {
      const by = callerOf(request)
      await visibleBackup(operations, by, request.params.id)
      const answer = await operations.validateBackup(by, request.params.id)
      if ('validation' in answer) return reply.code(200).send(answer.validation)
      return reply.code(202).header('location', `/api/v1/jobs/${answer.job.id}`).send(answer.job)
    },
  )
}

function cleanupRoutes(app: Api, operations: Operations): void {
  app.get(
    '/api/v1/cleanup',
    { schema: documented('backups', 'previewCleanup', 'What retention would remove now', { response: { 200: cleanupView } }) },
    async (request) => operations.previewCleanup(callerOf(request)),
  )
  app.post(
    '/api/v1/cleanup',
    {
      schema: documented('backups', 'cleanup', 'Apply retention now', {
        headers: idempotencyHeaders,
        body: cleanupBody,
        response: { 200: cleanupView },
      }),
    },
    async (request) => {
      const by = callerOf(request)
      return request.body.dry_run ? operations.previewCleanup(by) : operations.cleanup(by)
    },
  )
}

/** A host alone: the source's name there. Whole before the key's sources are looked at. */
function targetOf(backup: BackupView, target: string | undefined): string | undefined {
  if (target === undefined || target.includes('/')) return target
  return `${target}/${backup.source.slice(backup.source.indexOf('/') + 1)}`
}
