import type { Role } from './schemas/access.ts'

/**
 * Deny by default: every route has a row here, or the program does not start (server.ts). `who` is the least role, `reach`
 * says whether a key that is limited to some sources may call it, `action` is its name in the audit trail (null: only
 * refusals are recorded), `perMinute` the calls a key, or an address without a key, may make.
 */
export interface RouteAccess {
  readonly who: Role | 'anyone' | 'scraper'
  readonly reach: 'sources' | 'fleet'
  readonly action: string | null
  readonly perMinute: number
  /** The answer holds a secret that is shown once: it is never kept to be given again. */
  readonly answersSecret?: true
  /** What the audit trail keeps of the body, where it should not hold all of it for ever: sealed keys. */
  readonly keepsOfBody?: readonly string[]
}

const open = (perMinute: number): RouteAccess => ({ who: 'anyone', reach: 'sources', action: null, perMinute })
const read = (who: Role, reach: RouteAccess['reach'], perMinute = 600): RouteAccess => ({ who, reach, action: null, perMinute })
const act = (who: Role, reach: RouteAccess['reach'], action: string, perMinute = 120): RouteAccess => ({
  who,
  reach,
  action,
  perMinute,
})

export const ACCESS: Readonly<Record<string, RouteAccess>> = {
  'GET /healthz': open(600),
  'GET /readyz': open(600),
  'GET /metrics': { who: 'scraper', reach: 'fleet', action: null, perMinute: 120 },
  'GET /openapi.json': open(60),
  'GET /docs': open(60),
  'GET /docs/': open(60),
  'GET /docs/js/scalar.js': open(60),

  'POST /api/v1/backups': act('operator', 'sources', 'backup.start'),
  'GET /api/v1/backups': read('viewer', 'sources'),
  'GET /api/v1/backups/:id': read('viewer', 'sources'),
  'DELETE /api/v1/backups/:id': act('admin', 'sources', 'backup.delete'),
  'PUT /api/v1/backups/:id/pin': act('operator', 'sources', 'backup.pin'),
  'DELETE /api/v1/backups/:id/pin': act('admin', 'sources', 'backup.unpin'),
  'POST /api/v1/backups/:id/restore': act('operator', 'sources', 'restore.start'),
  // reads at the target, so fewer of them
  'GET /api/v1/backups/:id/validate': read('viewer', 'sources', 60),
  'POST /api/v1/backups/:id/verify': act('operator', 'sources', 'verify.start'),
  'POST /api/v1/backups/:id/test-restore': act('operator', 'sources', 'test-restore.start'),
  'GET /api/v1/cleanup': read('viewer', 'sources', 60),
  'POST /api/v1/cleanup': act('admin', 'fleet', 'retention.apply', 30),

  'GET /api/v1/jobs': read('viewer', 'sources'),
  'GET /api/v1/jobs/:id': read('viewer', 'sources'),
  'POST /api/v1/jobs/:id/cancel': act('operator', 'sources', 'job.cancel'),
  'POST /api/v1/jobs/:id/force': act('operator', 'sources', 'job.force'),
  'GET /api/v1/jobs/:id/unlock': act('operator', 'sources', 'job.locked-keys', 60),
  'POST /api/v1/jobs/:id/unlock': { ...act('operator', 'sources', 'job.unlock', 60), keepsOfBody: ['recipient'] },
  'GET /api/v1/jobs/:id/events': read('viewer', 'sources', 120),
  'GET /api/v1/jobs/:id/logs': read('viewer', 'sources'),

  'GET /api/v1/agents': read('viewer', 'fleet'),
  'POST /api/v1/agents/invitations': { ...act('operator', 'fleet', 'agent.invite', 600), answersSecret: true },
  'POST /api/v1/agents/:name/revoke': act('admin', 'fleet', 'agent.revoke'),
  'POST /api/v1/agents/:name/discover': act('operator', 'fleet', 'agent.discover'),
  'GET /api/v1/sources': read('viewer', 'sources'),
  'POST /api/v1/sources/:host/:name/accept-fall': act('admin', 'sources', 'retention.accept-fall'),

  'GET /api/v1/targets': read('viewer', 'fleet'),
  'GET /api/v1/policies': read('viewer', 'fleet'),
  'POST /api/v1/fleet/diff': read('viewer', 'fleet', 120),
  'PUT /api/v1/fleet': act('admin', 'fleet', 'fleet.apply', 60),

  'GET /api/v1/api-keys': read('admin', 'fleet'),
  'POST /api/v1/api-keys': { ...act('admin', 'fleet', 'api-key.create', 60), answersSecret: true },
  'DELETE /api/v1/api-keys/:id': act('admin', 'fleet', 'api-key.revoke', 60),
  'GET /api/v1/keys': read('viewer', 'fleet'),
  'POST /api/v1/keys/recovery': act('admin', 'fleet', 'key.add-recovery', 30),
  'GET /api/v1/audit': read('admin', 'fleet'),
  'GET /api/v1/audit/verify': read('admin', 'fleet', 10),

  'POST /api/v1/system/test': act('operator', 'fleet', 'system.test', 30),
  'GET /api/v1/status': read('viewer', 'sources', 120),
}
