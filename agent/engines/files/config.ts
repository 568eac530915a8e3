import path from 'node:path'
import { z } from 'zod'
import { HoldfastError } from '../../../shared/errors.ts'
import type { Place } from '../engine.ts'

const folder = z
  .string()
  .max(4096)
  .refine((value) => path.isAbsolute(value) && !value.includes('\0'), 'has to be an absolute path')
  .transform((value) => path.resolve(value))
const patterns = z.array(z.string().min(1).max(1000)).max(1000).default([])

export const filesConfig = z.strictObject({
  /** The folder that is protected. */
  path: folder,
  /** Glob patterns. One without "/" matches a name at any depth, one with "/" from the folder on. Empty: everything. */
  include: patterns,
  /** Wins over `include`. A folder that matches is not entered. */
  exclude: patterns,
  /** Other file systems mounted within are left out. */
  one_file_system: z.boolean().default(false),
  /** Folders in which a restore may make new ones, named by their absolute path. */
  restore_roots: z.array(folder).max(100).default([]),
})
export type FilesConfig = z.infer<typeof filesConfig>

/** Names of the engine's own, beside a target. */
export const NEW_PREFIX = '.holdfast-new-'
export const OLD_PREFIX = '.holdfast-old-'

/** Where a place is. `root`: the folder that its real parent has to lie in; null beside the source. */
export interface Location {
  readonly path: string
  readonly root: string | null
}

/** Throws `invalid_name` for whatever is no single name beside the source nor lies in a restore root. */
export function locate({ config, targetName }: Place<FilesConfig>): Location {
  if (targetName === null) return { path: config.path, root: null }
  const refuse = () =>
    new HoldfastError('invalid_name', `target ${JSON.stringify(targetName.slice(0, 200))} is not allowed`, {
      hint: "Give one name of at most 255 bytes without a slash, or a path in one of the source's restore_roots.",
    })
  if (targetName.includes('\0') || !targetName.isWellFormed() || targetName.length > 4096) throw refuse()
  const root = path.isAbsolute(targetName) ? config.restore_roots.find((one) => isInside(targetName, one)) : undefined
  const name = root ? path.basename(targetName) : targetName
  if (name === '' || name === '.' || name === '..' || name.includes('/') || Buffer.byteLength(name) > 255) throw refuse()
  if (name.startsWith(NEW_PREFIX) || name.startsWith(OLD_PREFIX)) throw refuse()
  return root ? { path: targetName, root } : { path: path.join(path.dirname(config.path), name), root: null }
}

function isInside(candidate: string, root: string): boolean {
  // a path that normalising would change hides ".." or doubled slashes
  return (
    path.normalize(candidate) === candidate && candidate.startsWith(root === '/' ? root : `${root}/`) && !candidate.endsWith('/')
  )
}
