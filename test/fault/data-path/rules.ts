import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import type { JobResult } from '../../../shared/generated/holdfast/agent/v1/jobs.ts'
import { objectKey } from '../../../shared/manifest/layout.ts'
import type { Manifest } from '../../../shared/manifest/manifest.ts'
import type { Ended } from './attempt.ts'

/** What has to hold whatever was done: each throws what was broken. */

/** By name, what is there: see Source. */
export type Inventory = ReadonlyMap<string, string>

export function require(holds: boolean, what: string): void {
  if (!holds) throw new Error(what)
}

export function requireReason(result: JobResult | null, what: string): void {
  // lost with the agent before it had said a word: a control plane gives it out again
  if (result === null) return
  const { error } = result
  require(error !== undefined && error.code !== '', `${what} failed without a reason`)
  require(error?.code !== 'internal', `${what} failed with no error of ours: ${error?.message}`)
}

/** Every object that the manifest names lies in the store with its hash, by the file's own bytes. */
export function requireObjects({ facts }: Manifest, store: string): void {
  for (const { name, size, sha256 } of facts.objects) {
    const bytes = readFileSync(path.join(store, objectKey(facts, name)))
    const same = bytes.length === size && createHash('sha256').update(bytes).digest('hex') === sha256
    require(same, `${name} of the good backup ${facts.id} is not what its manifest says`)
  }
}

/** What a backup holds. Of files that could not be read findings name twenty, and count the others. */
export interface Held {
  readonly files: Inventory
  /** So many of them are left out. */
  readonly unnamed: number
}

export function requireSame(found: Inventory, { files: wanted, unnamed }: Held, where: string): void {
  const missing = [...wanted.keys()].filter((name) => !found.has(name))
  const more = [...found.keys()].filter((name) => !wanted.has(name))
  const other = [...wanted].filter(([name, of]) => found.has(name) && found.get(name) !== of).map(([name]) => name)
  if (missing.length === unnamed && more.length + other.length === 0) return
  const list = (names: string[]) => names.slice(0, 5).join(', ') || 'none'
  const example = other[0] === undefined ? '' : `, as ${found.get(other[0])} for ${wanted.get(other[0])}`
  throw new Error(`${where} missing: ${list(missing)}; not of it: ${list(more)}; other: ${list(other)}${example}`)
}

export function isSame(found: Inventory, { files, unnamed }: Held): boolean {
  return found.size === files.size - unnamed && [...files].every(([name, of]) => found.get(name) === of)
}

/** Of a restore that nothing kept from its last step. */
export function requireNothingBeside(place: string): void {
  const left = readdirSync(path.dirname(place)).filter((name) => name.startsWith('.holdfast-'))
  require(left.length === 0, `a restore that succeeded left ${left[0]} beside ${place}`)
}

/** What a backup holds of a source: files that could not be read are left out, and findings say so. */
export function without(held: Inventory, findings: Ended['findings']): Held {
  const left = new Map(held)
  let unnamed = 0
  for (const { code, message } of findings) {
    if (code !== 'file_unreadable' && code !== 'folder_unreadable') continue
    const more = /^(\d+) more entries/.exec(message)
    if (more) {
      unnamed += Number(more[1])
      continue
    }
    const name = JSON.parse(/^"(?:[^"\\]|\\.)*"/.exec(message)?.[0] ?? '""') as string
    if (code === 'file_unreadable') left.delete(name)
    else for (const one of [...left.keys()]) if (one.startsWith(`${name}/`)) left.delete(one)
  }
  return { files: left, unnamed }
}
