import { HoldfastError } from '../../../shared/errors.ts'
import { selects } from '../../domain/source-pattern.ts'
import type { Caller, Operations } from '../operations.ts'
import type { BackupView } from '../schemas/backups.ts'
import type { JobEventView, JobView } from '../schemas/jobs.ts'

export const BACKUP = '20261121T020000Z-k7q2m4x9tb'
export const OTHER_BACKUP = '20261121T030000Z-k7q2m4x9tb'
export const JOB = 'j0123456789abcde'
const AT = '2026-11-21T02:00:00.000Z'

export const backup = (over: Partial<BackupView> = {}): BackupView => ({
  id: BACKUP,
  source: 'db1/app',
  engine: 'postgres',
  type: 'full',
  status: 'good',
  created_at: AT,
  finished_at: AT,
  description: null,
  size_bytes: 3_100_000,
  stored_bytes: 900_000,
  total_count: 12_480,
  leans_on: [],
  valid: true,
  validated_at: AT,
  verified_at: null,
  verified_by: null,
  test_restored_at: null,
  test_restored_by: null,
  pinned_at: null,
  needs_unlock: false,
  parts: [],
  target: 'local',
  job_id: JOB,
  copies: [{ target: 'local', state: 'good', good_at: AT, checked_at: null }],
  ...over,
})

export const job = (over: Partial<JobView> = {}): JobView => ({
  id: JOB,
  kind: 'backup',
  status: 'queued',
  source: 'db1/app',
  agent: 'db1',
  backup_id: BACKUP,
  target: null,
  attempt: 0,
  progress: null,
  error: null,
  detail: null,
  requested_by: 'key:test',
  policy: null,
  created_at: AT,
  started_at: null,
  finished_at: null,
  cancel_requested_at: null,
  unlock: null,
  ...over,
})

export interface FakeOperations extends Operations {
  /** Name and arguments of each call, the caller left out. */
  readonly calls: [string, ...unknown[]][]
  events(id: string, options: { after: number; signal: AbortSignal }): AsyncIterable<JobEventView>
}

/** Operations that remember what they were asked and answer from two backups; `over` replaces some of them. */
export function fakeOperations(over: Partial<FakeOperations> = {}): FakeOperations {
  const calls: FakeOperations['calls'] = []
  const backups = [backup(), backup({ id: OTHER_BACKUP, source: 'db2/other' })]
  const find = (id: string) => {
    const found = backups.find((one) => one.id === id)
    if (!found) throw new HoldfastError('not_found', `backup ${id} does not exist`, { hint: 'List the backups there are.' })
    return found
  }
  const nothing = { items: [], next_cursor: null }
  const cleanup = { dry_run: true, remove: [], keep: 2, freed_bytes: 0, held: [], findings: [] }
  const answers: Omit<FakeOperations, 'calls' | 'jobEvents'> = {
    startBackup: async (_by, request) => (request.sources ?? ['db1/app']).map((source) => job({ source })),
    listBackups: async (by: Caller) => ({ items: backups.filter((one) => selects(by.sources, one.source)), next_cursor: 'next' }),
    getBackup: async (_by, id) => find(id),
    deleteBackup: async (_by, id) => ({ ...find(id), status: 'expired' }),
    pinBackup: async (_by, id, pinned) => ({ ...find(id), pinned_at: pinned ? AT : null }),
    startRestore: async (_by, id, request) => job({ kind: 'restore', backup_id: id, target: request.target ?? 'db1/app' }),
    validateBackup: async () => ({ validation: { valid: true, errors: [], details: [], not_checked: [] } }),
    startVerify: async (_by, id) => job({ kind: 'verify', backup_id: id }),
    startTestRestore: async (_by, id) => job({ kind: 'test-restore', backup_id: id }),
    previewCleanup: async () => cleanup,
    cleanup: async () => ({ ...cleanup, dry_run: false }),
    acceptFall: async (_by, source) => {
      throw new HoldfastError('not_found', `source ${source} is not known`)
    },
    listJobs: async () => ({ items: [job()], next_cursor: null }),
    getJob: async (_by, id) => {
      if (id === JOB) return job()
      throw new HoldfastError('not_found', `job ${id} does not exist`)
    },
    cancelJob: async () => job({ cancel_requested_at: AT }),
    forceJob: async () => job({ status: 'queued' }),
    lockedKeys: async (_by, id) => {
      throw new HoldfastError('job_state', `job ${id} does not wait to be unlocked`)
    },
    unlockJob: async () => job({ kind: 'restore', status: 'running' }),
    events: async function* () {
      yield { id: 1, type: 'state', at: AT, attempt: 1, data: { status: 'succeeded' } }
    },
    jobLogs: async () => nothing,
    listAgents: async () => nothing,
    inviteAgent: async (_by, request) => ({
      name: request.name,
      token: 'hft_secret',
      pin: 'sha256:00',
      server: 'cp.example.com:7443',
      expires_at: AT,
      command: 'holdfast-agent configure ...',
    }),
    revokeAgent: async (_by, name) => {
      throw new HoldfastError('not_found', `agent ${name} does not exist`)
    },
    discover: async (_by, agent) => job({ kind: 'discover', agent, source: null, backup_id: null }),
    listSources: async () => nothing,
    listTargets: async () => nothing,
    listPolicies: async () => nothing,
    diffFleet: async () => ({ applied: false, changes: [], findings: [] }),
    applyFleet: async () => ({ applied: true, changes: [], findings: [] }),
    listApiKeys: async () => nothing,
    createApiKey: async (by, request) => ({
      id: 'k1',
      name: request.name,
      role: request.role,
      sources: request.sources,
      created_by: by.keyName,
      created_at: AT,
      expires_at: null,
      revoked_at: null,
      last_used_at: null,
      key: 'hfk_secret',
    }),
    revokeApiKey: async (_by, id) => {
      throw new HoldfastError('not_found', `API key ${id} does not exist`)
    },
    fleetKeys: async () => ({ fleet_id: 'f', verifying_key: 'pem', fleet_recipient: 'age1', recovery_recipients: [] }),
    addRecovery: async () => ({ fleet_id: 'f', verifying_key: 'pem', fleet_recipient: 'age1', recovery_recipients: [] }),
    listAudit: async () => nothing,
    verifyAudit: async () => ({ valid: true, entries: 0, head: null, errors: [] }),
    systemTest: async () => ({ ok: true, findings: [] }),
    status: async () => ({
      version: '0.1.0',
      fleet_id: 'f',
      at: AT,
      agents: { total: 1, connected: 1 },
      jobs: { queued: 0, running: 0 },
      sources: [],
    }),
    ...over,
  }
  const recorded = Object.fromEntries(
    Object.entries(answers).map(([name, answer]) => [
      name,
      (...given: unknown[]) => {
        calls.push([name, ...given.slice(1)])
        return (answer as (...given: unknown[]) => unknown)(...given)
      },
    ]),
  ) as unknown as Omit<FakeOperations, 'calls' | 'jobEvents'>
  return { ...recorded, calls, jobEvents: (_by, id, options) => answers.events(id, options) }
}
