import { createHash } from 'node:crypto'
import { type FileHandle, link, lstat, open, readdir, rename, rm } from 'node:fs/promises'
import path from 'node:path'
import type { ArtifactInfo, BackupSource } from '../../../shared/artifacts.ts'
import { syncFolder } from '../../../shared/durable-file.ts'
import { HoldfastError } from '../../../shared/errors.ts'
import { randomBase32 } from '../../../shared/ids.ts'
import type { RestorePlan, Run } from '../engine.ts'
import { DATABASE, refuseParts } from './backup.ts'
import { NEW_PREFIX, SIDECARS, type SqliteConfig } from './config.ts'
import { fileError } from './errors.ts'
import { countFile } from './helper.ts'
import { swap } from './swap.ts'
import { findTarget, refuseExisting, type Target } from './target.ts'

export async function restore(plan: RestorePlan<SqliteConfig>, source: BackupSource, run: Run): Promise<void> {
  run.signal.throwIfAborted()
  refuseParts(plan.parts)
  try {
    const target = await findTarget(plan)
    if (!plan.overwrite) refuseExisting(target)
    const info = await databaseOf(source)
    await removeStaged(target.folder, target.path)
    const staged = path.join(target.folder, stagedPrefix(target.path) + randomBase32(10))
    const handle = await open(staged, 'wx', 0o600)
    try {
      await write(handle, source, info, run)
      await verify(staged, source, plan.config, run)
      await giveOwner(handle, target, info, run)
      run.signal.throwIfAborted()
      await requireOurs(staged, handle)
      await place(staged, target, plan.config, run)
    } finally {
      await handle.close()
      for (const suffix of ['', ...SIDECARS]) await rm(staged + suffix, { force: true })
    }
  } catch (error) {
    run.signal.throwIfAborted()
    throw fileError(error, plan.targetName ?? plan.config.path)
  }
}

const stagedPrefix = (target: string): string => `${NEW_PREFIX}${createHash('sha256').update(target).digest('hex').slice(0, 12)}-`

/** What restores into this place left that were killed: no two are ever at it at the same time. */
export async function removeStaged(folder: string, target: string): Promise<void> {
  for (const name of await readdir(folder))
    if (name.startsWith(stagedPrefix(target))) await rm(path.join(folder, name), { force: true })
}

async function write(handle: FileHandle, source: BackupSource, info: ArtifactInfo, run: Run): Promise<void> {
  run.progress({ phase: 'writing', totalBytes: info.bytes })
  for await (const piece of source.openStream(DATABASE)) {
    run.signal.throwIfAborted()
    await handle.writeFile(piece)
    run.progress({ writtenBytes: piece.length })
  }
  await handle.sync()
}

async function verify(staged: string, source: BackupSource, config: SqliteConfig, run: Run): Promise<void> {
  run.progress({ phase: 'checking' })
  const { problems } = await countFile(staged, { ...config, integrity_check: 'quick' }, run)
  // one that was damaged when it was backed up is still what its owner asks for
  if (problems.length === 0 || source.fingerprint.facts.integrity === 'failed') return
  throw new HoldfastError('source_corrupt', `the restored database is damaged: ${problems[0]?.slice(0, 500)}`, {
    hint: 'Verify the backup, and restore another one. What was there has not been touched.',
  })
}

/**
 * The owner and mode of what it replaces, else of what was backed up. By the open file, never by its name: whoever may write to the folder
 * could have put a link there, and an agent that is root would give away what that leads to.
 */
async function giveOwner(handle: FileHandle, target: Target, info: ArtifactInfo, run: Run): Promise<void> {
  const number = (name: string, limit: number) => {
    const value = Number(info.facts[name])
    return Number.isSafeInteger(value) && value >= 0 && value <= limit ? value : null
  }
  const uid = target.current?.uid ?? number('uid', 0xffff_fffe)
  const gid = target.current?.gid ?? number('gid', 0xffff_fffe)
  if (uid !== null && gid !== null) {
    await handle.chown(uid, gid).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPERM' && error.code !== 'EINVAL') throw error
      const message = `${target.path} belongs to the user of the agent now`
      const hint = 'Run the restore as root to give the file back to its owner.'
      run.finding({ code: 'owner_not_restored', severity: 'warning', message, hint })
    })
  }
  // a database is no program: set-uid and the like out of a backup are not taken over
  await handle.chmod((target.current?.mode ?? number('mode', 0o7777) ?? 0o600) & 0o777)
  await handle.sync()
}

/** What was written and checked is what gets the target's name. */
async function requireOurs(staged: string, handle: FileHandle): Promise<void> {
  const written = await handle.stat({ bigint: true })
  const there = await lstat(staged, { bigint: true }).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null
    throw error
  })
  if (there?.ino === written.ino && there.dev === written.dev) return
  throw new HoldfastError('conflict', `${staged} was replaced by somebody while it was written`, {
    hint: 'Look at who can write to the folder; nothing has been changed.',
  })
}

async function place(staged: string, target: Target, config: SqliteConfig, run: Run): Promise<void> {
  if (target.current || target.sidecars.length > 0) return swap(staged, target, config, run)
  run.fenced()
  try {
    // unlike rename, this does not replace what has appeared meanwhile
    await link(staged, target.path)
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : ''
    if (code === 'EEXIST') refuseExisting({ ...target, sidecars: [target.path] })
    // a file system without hard links
    if (code !== 'EPERM' && code !== 'ENOTSUP' && code !== 'EMLINK') throw error
    await rename(staged, target.path)
  }
  await syncFolder(target.folder)
}

async function databaseOf(source: BackupSource): Promise<ArtifactInfo> {
  for await (const info of source.artifacts()) if (info.kind === 'stream' && info.name === DATABASE) return info
  throw new HoldfastError('backup_invalid', 'the backup holds no SQLite database', {
    hint: 'Choose a backup of a sqlite source.',
  })
}
