import { existsSync } from 'node:fs'
import { lstat, realpath } from 'node:fs/promises'
import path from 'node:path'
import { HoldfastError } from '../../../shared/errors.ts'
import type { Place } from '../engine.ts'
import { locate, SIDECARS, type SqliteConfig } from './config.ts'

export interface Target {
  readonly folder: string
  readonly path: string
  /** The database that is there, or null. */
  readonly current: { readonly mode: number; readonly uid: number; readonly gid: number; readonly size: number } | null
  /** What SQLite would take for the log of a database put here. */
  readonly sidecars: readonly string[]
}

/** Where a restore writes. A source that is given by way of a link is replaced where it really is. */
export async function findTarget(place: Place<SqliteConfig>): Promise<Target> {
  const wanted = locate(place)
  const real = place.targetName === null && existsSync(wanted) ? await realpath(wanted) : wanted
  const folder = await realpath(path.dirname(real))
  const target = path.join(folder, path.basename(real))
  const current = await lstat(target).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null
    throw error
  })
  if (current && !current.isFile()) {
    throw new HoldfastError('conflict', `${target} is there and is no file`, { hint: 'Restore into another name.' })
  }
  return { folder, path: target, current, sidecars: SIDECARS.map((suffix) => target + suffix).filter((one) => existsSync(one)) }
}

export function refuseExisting(target: Target): void {
  const there = target.current ? target.path : target.sidecars[0]
  if (!there) return
  throw new HoldfastError('source_exists', `${there} exists`, {
    hint: 'Restore into another name, or with --overwrite to replace it as a whole.',
  })
}
