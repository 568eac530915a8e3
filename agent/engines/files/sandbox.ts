import { closeSync, constants, openSync, readdirSync, realpathSync, unlinkSync } from 'node:fs'
import path from 'node:path'
import { randomBase32 } from '../../../shared/ids.ts'
import type { Sandbox } from '../engine.ts'
import { type FilesConfig, locate } from './config.ts'
import { fileError } from './errors.ts'
import { tryLock } from './posix.ts'
import { removeTree } from './remove.ts'
import { clean, isAbandoned } from './staging.ts'

const PREFIX = '.holdfast-test-'
const LOCK = '.lock'
const LOCK_NAME = /^\.holdfast-test-[0-9a-z]{10}\.lock$/

/**
 * A new name beside the source, or in its first restore root, and a locked file beside that: by the lock, which ends with its process, the
 * next test restore there tells what a killed one has left, which may be as large as the backup.
 */
export async function openSandbox(config: FilesConfig): Promise<Sandbox<FilesConfig>> {
  const root = config.restore_roots[0]
  const name = `${PREFIX}${randomBase32(10)}`
  const place = { config, targetName: root ? path.join(root, name) : name, restored: true }
  const made = locate(place).path
  try {
    const folder = realpathSync(path.dirname(made))
    await removeLeftovers(folder)
    const lock = openSync(`${made}${LOCK}`, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW, 0o600)
    tryLock(lock)
    let disposed: Promise<void> | undefined
    return { place, dispose: () => (disposed ??= remove(made, lock)) }
  } catch (error) {
    throw fileError(error, made)
  }
}

async function remove(made: string, lock: number): Promise<void> {
  try {
    await removeTree(Buffer.from(made))
    unlinkSync(`${made}${LOCK}`)
  } catch (error) {
    throw fileError(error, made)
  } finally {
    closeSync(lock)
  }
}

async function removeLeftovers(folder: string): Promise<void> {
  for (const name of readdirSync(folder)) {
    if (!LOCK_NAME.test(name) || !isAbandoned(Buffer.from(path.join(folder, name)))) continue
    const left = path.join(folder, name.slice(0, -LOCK.length))
    await clean({ parent: folder, path: left, exists: false })
    await removeTree(Buffer.from(left))
    await removeTree(Buffer.from(path.join(folder, name)))
  }
}
