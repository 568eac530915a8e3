import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { ACCESS } from '../../control-plane/api/access.ts'
import type { NewApiKeyView } from '../../control-plane/api/schemas/access.ts'
import { newAgeIdentity, recipientOf } from '../../shared/age/age.ts'
import { TestHoldfast } from '../harness/holdfast.ts'
import { waiting } from '../harness/unlock.ts'

/** What an operation is asked with so that it finds what it looks for: values for its path, and a body. */
export interface RealRequest {
  readonly path?: Readonly<Record<string, readonly string[]>>
  readonly body?: Readonly<Record<string, unknown>>
}

export interface FleetToFuzz {
  readonly holdfast: TestHoldfast
  /** By operation id, for each that names something or has a body. */
  readonly real: Readonly<Record<string, RealRequest>>
}

/** For the jobs that wait for a key, and for one beside them: whoever tests the system waits for every host. */
const ROOM = { parallelJobsPerAgent: 4, parallelJobs: 4 }
/** The limits would answer instead of the routes. */
const unlimited = Object.fromEntries(Object.entries(ACCESS).map(([name, row]) => [name, { ...row, perMinute: 1_000_000 }]))

/**
 * A fleet that has something of everything: good backups of two engines, jobs that are over, jobs that wait for an operator's key, policies, a key. What
 * a request uses up (the backup it deletes, the job it cancels, the host and the key it revokes) is there for it alone.
 */
export async function fleetToFuzz(): Promise<FleetToFuzz> {
  const holdfast = await TestHoldfast.start({ access: unlimited, limits: ROOM, logLevel: 'silent' })
  try {
    return { holdfast, real: await filled(holdfast) }
  } catch (error) {
    await holdfast[Symbol.asyncDispose]()
    throw error
  }
}

async function filled(holdfast: TestHoldfast): Promise<FleetToFuzz['real']> {
  const { operator } = holdfast
  const tree = path.join(holdfast.folder.path, 'db1', 'tree')
  await mkdir(tree, { recursive: true })
  await writeFile(path.join(tree, 'file'), 'first')
  const app = { engine: 'sqlite', path: database(path.join(holdfast.folder.path, 'db1', 'app.db')) }
  await holdfast.addAgent('db1', { sources: { tree: { engine: 'files', path: tree }, app } })
  await mkdir(path.join(holdfast.folder.path, 'db2'))
  const notes = { engine: 'sqlite', path: database(path.join(holdfast.folder.path, 'db2', 'notes.db')) }
  await holdfast.addAgent('db2', { sources: { notes } })
  const policies = {
    kept: { select: { sources: ['db1/*'] }, targets: ['primary'], schedule: { full: '0 3 * * 0' }, retention: { last: 2 } },
    sealed: { select: { sources: ['db2/*'] }, targets: ['primary'], recipients: 'recovery' },
  }
  await operator.ask('PUT', '/api/v1/fleet', { policies })

  const spare = await operator.backUp('db1/tree', 'full')
  const full = await operator.backUp('db1/tree', 'full')
  await writeFile(path.join(tree, 'file'), 'second')
  const next = await operator.backUp('db1/tree', 'incremental')
  const rows = await operator.backUp('db1/app', 'full')
  const sealed = await operator.backUp('db2/notes', 'full')
  const restored = await operator.restore(next.id, { target: 'db1/restored' })
  const [locked, unlocked, cancelled] = await Promise.all(
    ['locked', 'unlocked', 'cancelled'].map(async (name) =>
      waiting(holdfast, await operator.startRestore(sealed.id, { target: `db2/${name}` })),
    ),
  )
  if (!locked?.unlock || !unlocked?.unlock || !cancelled) throw new Error('no job waits for a key')
  const key = await operator.ask<NewApiKeyView>('POST', '/api/v1/api-keys', { name: 'spare', role: 'viewer' })

  const backup = { path: { id: [full.id, next.id, rows.id, sealed.id] } }
  const over = { path: { id: [full.job.id, rows.job.id, restored.id] } }
  const file = Buffer.from('age-encryption.org/v1\nnothing').toString('base64')
  return {
    startBackup: { body: { type: 'full', sources: ['db1/tree'], description: 'before the change' } },
    getBackup: backup,
    deleteBackup: { path: { id: [spare.id] } },
    pinBackup: backup,
    unpinBackup: backup,
    startRestore: { path: { id: [full.id, next.id] }, body: { target: 'db1/copy', via: 'db1/tree', overwrite_existing: true } },
    startVerify: { path: { id: [full.id, next.id, rows.id] }, body: { on: 'db1', share_percent: 50 } },
    startTestRestore: { path: { id: [full.id, next.id] }, body: { via: 'db1/tree' } },
    validateBackup: backup,
    cleanup: { body: { dry_run: false } },
    getJob: over,
    jobLogs: over,
    jobEvents: over,
    cancelJob: { path: { id: [cancelled.id] }, body: { reason: 'no longer needed' } },
    forceJob: { path: { id: [restored.id] }, body: { risk_accepted: true } },
    lockedKeys: { path: { id: [locked.id] } },
    unlockJob: {
      path: { id: [unlocked.id] },
      body: { recipient: unlocked.unlock.recipient, keys: [{ backup_id: sealed.id, attempt: 1, file }] },
    },
    inviteAgent: { body: { name: 'db3', valid_seconds: 900, replace: false } },
    revokeAgent: { path: { name: ['db2'] }, body: { reason: 'it is gone' } },
    discover: { path: { name: ['db1'] } },
    acceptFall: { path: { host: ['db1'], name: ['tree', 'app'] } },
    diffFleet: { body: { policies } },
    applyFleet: { body: { policies } },
    createApiKey: { body: { name: 'robot', role: 'operator', sources: ['db1/*'], valid_seconds: 3600 } },
    revokeApiKey: { path: { id: [key.id] } },
    addRecovery: { body: { recipient: await recipientOf(await newAgeIdentity()) } },
  }
}

function database(file: string): string {
  const db = new DatabaseSync(file)
  db.exec("create table notes (body text); insert into notes values ('first'), ('second')")
  db.close()
  return file
}
