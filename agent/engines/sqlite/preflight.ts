import { constants } from 'node:fs'
import { access, realpath, stat, statfs } from 'node:fs/promises'
import type { BackupSource } from '../../../shared/artifacts.ts'
import { isHoldfastError } from '../../../shared/errors.ts'
import type { Finding, RestorePreview } from '../../../shared/results.ts'
import type { BackupPlan, RestorePlan, Run } from '../engine.ts'
import { refuseParts } from './backup.ts'
import type { SqliteConfig } from './config.ts'
import { fileError } from './errors.ts'
import { Helper } from './helper.ts'
import { readHeader } from './open.ts'
import { findTarget, refuseExisting } from './target.ts'

const WAL_VERSION = 2

export async function preflight(plan: BackupPlan<SqliteConfig> | RestorePlan<SqliteConfig>, run: Run): Promise<Finding[]> {
  const findings: Finding[] = []
  try {
    refuseParts(plan.parts)
    if (plan.action === 'backup') findings.push(...(await beforeBackup(plan, run)))
    else await beforeRestore(plan)
  } catch (thrown) {
    run.signal.throwIfAborted()
    const error = fileError(thrown, plan.config.path)
    if (!isHoldfastError(error)) throw error
    findings.push({ code: error.code, severity: 'error', message: error.message, ...(error.hint ? { hint: error.hint } : {}) })
  }
  return findings
}

async function beforeBackup(plan: BackupPlan<SqliteConfig>, run: Run): Promise<Finding[]> {
  const file = await realpath(plan.config.path)
  const helper = new Helper(run, { task: 'pin', path: file, integrity: 'off', busyMs: plan.config.busy_timeout_ms })
  try {
    const { wal } = await helper.pinned()
    await helper.release()
    if (wal) return []
  } finally {
    await helper.end()
  }
  const message = `${file} is not in WAL mode: its writers wait while it is copied`
  const hint = 'Switch it to WAL mode (pragma journal_mode = wal) if its writers cannot wait.'
  return [{ code: 'writers_wait', severity: 'info', message, hint }]
}

async function beforeRestore(plan: RestorePlan<SqliteConfig>): Promise<void> {
  const target = await findTarget(plan)
  await access(target.folder, constants.W_OK | constants.X_OK)
  if (!plan.overwrite) refuseExisting(target)
}

export async function preview(plan: RestorePlan<SqliteConfig>, source: BackupSource): Promise<RestorePreview> {
  refuseParts(plan.parts)
  const target = await findTarget(plan).catch((error: unknown) => {
    throw fileError(error, plan.config.path)
  })
  let bytes = 0
  for await (const info of source.artifacts()) bytes += info.bytes
  const { bavail, bsize } = await statfs(target.folder)
  const findings: Finding[] = []
  if (bavail * bsize < bytes) {
    const message = `${target.folder} has ${bavail * bsize} bytes left, and the restore needs ${bytes}`
    findings.push({
      code: 'disk_full',
      severity: 'error',
      message,
      hint: 'Make room first: the new file is written beside the old one.',
    })
  }
  if (!target.current) return { creates: [target.path], replaces: [], bytes, findings }
  const note = 'The whole database, with what was written to it since.'
  return { creates: [], replaces: [{ what: target.path, size_bytes: target.current.size, note }], bytes, findings }
}

/** From the file's header alone. */
export async function describe(config: SqliteConfig): Promise<Record<string, string>> {
  try {
    const file = await realpath(config.path)
    const header = readHeader(file)
    const size = String((await stat(file)).size)
    return { path: config.path, size_bytes: size, journal: header?.[18] === WAL_VERSION ? 'wal' : 'rollback' }
  } catch (error) {
    throw fileError(error, config.path)
  }
}
