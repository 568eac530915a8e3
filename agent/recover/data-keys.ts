import { HoldfastError, isHoldfastError } from '../../shared/errors.ts'
import { keysName, objectKey } from '../../shared/manifest/layout.ts'
import type { Facts } from '../../shared/manifest/manifest.ts'
import { checkValue } from '../../shared/repository/format.ts'
import { openDataKeys } from '../../shared/repository/keys.ts'
import type { Secret } from '../../shared/secret.ts'
import type { StorageTarget } from '../../shared/storage/target.ts'

/** The data keys that the facts need. The file that they name first, then those that rotations have added. Throws `key_missing`. */
export async function dataKeys(
  store: StorageTarget,
  facts: Facts,
  identities: readonly Secret[],
  signal: AbortSignal,
): Promise<Map<number, Secret<Buffer>>> {
  const missing = new Map(facts.keys.map(({ attempt, check }) => [attempt, check]))
  const found = new Map<number, Secret<Buffer>>()
  let last: unknown
  for await (const name of keyFiles(store, facts, signal)) {
    try {
      for (const { attempt, dataKey } of await openKeyFile(store, facts, name, identities, signal)) {
        // the check value decides: a file of another backup, or a forged one, helps nobody
        if (missing.get(attempt) !== checkValue(dataKey.reveal(), facts, attempt).toString('hex')) continue
        missing.delete(attempt)
        found.set(attempt, dataKey)
      }
    } catch (error) {
      if (!isHoldfastError(error) || error.retry) throw error
      last = error
    }
    if (missing.size === 0) return found
  }
  throw new HoldfastError('key_missing', `no key file of ${facts.id} opens with the identity at hand`, {
    hint: `It was sealed to: ${facts.recipients.join(', ')}. A backup without key files was deleted.`,
    context: { key: objectKey(facts, keysName(facts.attempt)) },
    cause: last,
  })
}

/** Whether `dataKeys` finds them. */
export async function opensKeys(
  store: StorageTarget,
  facts: Facts,
  identities: readonly Secret[],
  signal: AbortSignal,
): Promise<boolean> {
  try {
    await dataKeys(store, facts, identities, signal)
    return true
  } catch (error) {
    if (isHoldfastError(error, 'key_missing')) return false
    throw error
  }
}

async function openKeyFile(store: StorageTarget, facts: Facts, name: string, identities: readonly Secret[], signal: AbortSignal) {
  const key = objectKey(facts, name)
  const bytes = await store.get(key, { signal })
  return (await openDataKeys(bytes, identities, key)).keys
}

async function* keyFiles(store: StorageTarget, facts: Facts, signal: AbortSignal): AsyncGenerator<string> {
  const named = new Set(facts.keys.map(({ name }) => name))
  yield* named
  const folder = objectKey(facts, '')
  for await (const { key } of store.list(objectKey(facts, 'keys/'), signal)) {
    const name = key.slice(folder.length)
    if (/^keys\/[1-9][0-9]{0,5}$/.test(name) && !named.has(name)) yield name
  }
}
