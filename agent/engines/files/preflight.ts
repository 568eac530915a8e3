import { accessSync, constants, lstatSync, readdirSync, statfsSync } from 'node:fs'
import type { BackupSource, TreeEntry } from '../../../shared/artifacts.ts'
import { isHoldfastError } from '../../../shared/errors.ts'
import type { Finding, RestorePreview } from '../../../shared/results.ts'
import type { BackupPlan, RestorePlan, Run } from '../engine.ts'
import { openTree, TREE } from './backup.ts'
import type { FilesConfig } from './config.ts'
import { fileError } from './errors.ts'
import { hasCode } from './posix.ts'
import { printable } from './report.ts'
import { Parts } from './select.ts'
import { findTarget, mountsWithin, type Target } from './target.ts'

/** How many of the files that parts replace are named one by one. */
const NAMED = 1000

export async function preflight(plan: BackupPlan<FilesConfig> | RestorePlan<FilesConfig>): Promise<Finding[]> {
  return plan.action === 'backup' ? beforeBackup(plan) : beforeRestore(plan)
}

function beforeBackup(plan: BackupPlan<FilesConfig>): Finding[] {
  const { path } = plan.config
  const findings = attempt(path, () => {
    const tree = openTree(path)
    try {
      readdirSync(tree.folder(Buffer.alloc(0)), { encoding: 'buffer' })
    } finally {
      tree.close()
    }
  })
  if (process.geteuid?.() === 0) return findings
  const hint = 'Run the agent as root, or give its user the right to read everything, if owners and access lists matter.'
  const message = `the agent is not root: what others keep from it in ${path} cannot be read`
  return [...findings, { code: 'agent_unprivileged', severity: 'info', message, hint }]
}

function beforeRestore(plan: RestorePlan<FilesConfig>): Finding[] {
  let target: Target | undefined
  const findings = attempt(plan.targetName ?? plan.config.path, () => {
    target = findTarget(plan)
    accessSync(target.parent, constants.W_OK | constants.X_OK)
  })
  if (!target?.exists) return findings
  if (!plan.overwrite) {
    const hint = 'Restore into another name, or with --overwrite to replace it as a whole.'
    return [...findings, { code: 'source_exists', severity: 'error', message: `${target.path} exists`, hint }]
  }
  const mounts = plan.parts.length === 0 ? mountsWithin(target.path) : []
  const hint = 'Restore into another name, or unmount it first.'
  return [
    ...findings,
    ...mounts.map((mount): Finding => ({ code: 'conflict', severity: 'error', message: `${mount} is a mount point`, hint })),
  ]
}

/** What `work` throws as a finding. */
function attempt(what: string, work: () => void): Finding[] {
  try {
    work()
    return []
  } catch (thrown) {
    const error = fileError(thrown, what)
    if (!isHoldfastError(error)) throw error
    return [{ code: error.code, severity: 'error', message: error.message, ...(error.hint ? { hint: error.hint } : {}) }]
  }
}

export async function preview(plan: RestorePlan<FilesConfig>, source: BackupSource, run: Run): Promise<RestorePreview> {
  const parts = new Parts(plan.parts)
  const target = findTarget(plan)
  const replaced: TreeEntry[] = []
  const seen = { bytes: 0, replaced: 0 }
  const live = target.exists && !parts.all ? openTree(target.path) : null
  const look = (entry: TreeEntry): boolean => {
    if (entry.path.length > 0 && parts.judge(entry.path) === 'skip') return false
    if (!entry.hardLinkTo) seen.bytes += entry.size
    if (live && entry.type !== 'directory' && isThere(() => lstatSync(live.entry(entry.path)))) {
      if (++seen.replaced <= NAMED) replaced.push(entry)
    }
    return false
  }
  try {
    for await (const entry of source.openTree(TREE, look)) throw new Error(`entry ${entry.path} was not asked for`)
    run.signal.throwIfAborted()
  } catch (error) {
    throw fileError(error, target.path)
  } finally {
    live?.close()
  }
  parts.requireAll('the backup')
  const findings = spaceFindings(target, seen.bytes)
  if (!target.exists) return { creates: [target.path], replaces: [], bytes: seen.bytes, findings }
  const note = 'The whole folder, with what was added to it since.'
  const replaces: RestorePreview['replaces'] = live
    ? replaced.map((entry) => ({ what: printable(entry.path), size_bytes: entry.size }))
    : [{ what: target.path, note }]
  if (seen.replaced > NAMED) replaces.push({ what: target.path, note: `${seen.replaced - NAMED} more files` })
  return { creates: [], replaces, bytes: seen.bytes, findings }
}

/** What cannot be looked at is an error: a preview that leaves out what a restore replaces is worse than none. */
function isThere(look: () => unknown): boolean {
  try {
    look()
    return true
  } catch (error) {
    // absent, or beneath something that is no folder: nothing to replace either way
    if (hasCode(error, 'ENOENT', 'ENOTDIR', 'ELOOP')) return false
    throw error
  }
}

function spaceFindings(target: Target, bytes: number): Finding[] {
  const { bavail, bsize } = statfsSync(target.parent)
  if (bavail * bsize > bytes) return []
  const message = `${target.parent} has ${bavail * bsize} bytes left, and the restore needs up to ${bytes}`
  return [
    { code: 'disk_full', severity: 'warning', message, hint: 'Make room first; sparse files may need less than is said here.' },
  ]
}
