import pLimit from 'p-limit'
import { isHoldfastError } from '../errors.ts'
import { objectKey } from './layout.ts'
import type { Facts, Manifest } from './manifest.ts'

export interface ValidationError {
  readonly code: 'object_missing' | 'object_damaged'
  readonly key: string
  readonly message: string
}

/** What the store says of an object; null when it isn't there. `sha256` is null where the store keeps none. */
export type Head = (key: string) => Promise<{ size: number; sha256: Buffer | null } | null>

const PARALLEL = 16

/** Asks the store about every object that a backup needs, its own and those of the backups it leans on. Reads no body. */
export async function validateObjects(manifest: Manifest, leansOn: Iterable<Manifest>, head: Head): Promise<ValidationError[]> {
  const errors: ValidationError[] = []
  const limit = pLimit(PARALLEL)
  const leaned = [...leansOn]
  const checks = [
    ...manifest.facts.objects.map((object) => ({ facts: manifest.facts, object })),
    // contents and index of a leaned-on backup are not needed
    ...leaned.flatMap(({ facts }) =>
      facts.objects.filter(({ name }) => !/^(contents|index)\//.test(name)).map((object) => ({ facts, object })),
    ),
  ]
  for (const lean of manifest.facts.leans_on) {
    if (leaned.some(({ facts }) => facts.id === lean.id)) continue
    const key = `${lean.host}/${lean.source}/${lean.id}/manifest.json`
    errors.push({ code: 'object_missing', key, message: `${key} is missing, and the backup leans on it` })
  }
  const found = await Promise.all(checks.map(({ facts, object }) => limit(() => checkObject(facts, object, head))))
  return [...errors, ...found.filter((error) => error !== null)]
}

async function checkObject(facts: Facts, object: Facts['objects'][number], head: Head): Promise<ValidationError | null> {
  const key = objectKey(facts, object.name)
  let found: Awaited<ReturnType<Head>>
  try {
    found = await head(key)
  } catch (error) {
    if (isHoldfastError(error, 'object_damaged')) return { code: 'object_damaged', key, message: error.message }
    throw error
  }
  if (!found) return { code: 'object_missing', key, message: `${key} is missing` }
  if (found.size !== object.size) {
    return { code: 'object_damaged', key, message: `${key} has ${found.size} bytes where ${object.size} were stored` }
  }
  if (found.sha256 && found.sha256.toString('hex') !== object.sha256) {
    return { code: 'object_damaged', key, message: `${key} has another checksum than what was stored` }
  }
  return null
}
