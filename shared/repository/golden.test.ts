import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import { parseIdentityFile } from '../age/age.ts'
import { isHoldfastError } from '../errors.ts'
import { readFleetObject } from '../manifest/fleet-object.ts'
import { verifyHistory } from '../manifest/history.ts'
import type { Manifest } from '../manifest/manifest.ts'
import { verifyManifest } from '../manifest/verify.ts'
import type { Secret } from '../secret.ts'
import { openDataKeys } from './keys.ts'
import { rebuildKnown } from './known-rebuild.ts'
import { openReader } from './reader.ts'
import type { ReaderOptions } from './repository.ts'
import { type ExpectedBackup, restoredArtifacts } from './testing/golden-expectation.ts'
import { MemoryObjects } from './testing/memory-objects.ts'
import { temporaryFolder } from './testing/temporary-folders.ts'

/** A repository that an earlier version wrote: every later one has to restore it. test/independent-reader reads the same. */
const folder = path.join(import.meta.dirname, 'testing', 'format-1')
const expected: Record<string, ExpectedBackup> = JSON.parse(readFileSync(path.join(folder, 'expected.json'), 'utf8'))
const places = Object.entries(expected)
const objects = new MemoryObjects()
const manifests = new Map<string, Manifest>()
const signal = new AbortController().signal

beforeAll(() => {
  const target = path.join(folder, 'target')
  for (const entry of readdirSync(target, { recursive: true, withFileTypes: true })) {
    const file = path.join(entry.parentPath, entry.name)
    if (entry.isFile()) objects.put(path.relative(target, file), readFileSync(file))
  }
  const { verifying_key } = readFleetObject(objects.objects.get('holdfast.json') as Buffer)
  for (const [place] of places) {
    const key = `${place}/manifest.json`
    manifests.set(place, verifyManifest(objects.objects.get(key) as Buffer, { verifyingKey: verifying_key }, key).manifest)
  }
})

const identityOf = (name: string): Secret =>
  parseIdentityFile(readFileSync(path.join(folder, `${name}.txt`), 'utf8'))[0] as Secret

/** Data keys by backup and attempt, of every key file that the identity opens. */
async function keysOf(identity: Secret): Promise<Map<string, Secret<Buffer>>> {
  const keys = new Map<string, Secret<Buffer>>()
  for (const [key, bytes] of objects.objects) {
    if (!key.includes('/keys/')) continue
    const opened = await openDataKeys(bytes, [identity]).catch((error: unknown) => {
      if (isHoldfastError(error, 'key_missing')) return null
      throw error
    })
    for (const row of opened?.keys ?? []) keys.set(`${opened?.backup.id}/${row.attempt}`, row.dataKey)
  }
  return keys
}

function options(place: string, keys: ReadonlyMap<string, Secret<Buffer>>): ReaderOptions {
  const manifest = manifests.get(place) as Manifest
  const leansOn = new Map([...manifests.values()].map((other) => [other.facts.id, other]))
  return { manifest, leansOn, keys: (id, attempt) => keys.get(`${id}/${attempt}`), objects, signal }
}

describe('a repository of format 1 as its first version wrote it', () => {
  test('still has what it was made for: every kind of backup, several attempts, packs and recipients, rotated and removed keys', () => {
    const all = places.map(([place, backup]) => ({ ...backup, ...(manifests.get(place) as Manifest).facts }))
    expect(all.map(({ type, leans_on }) => `${type} on ${leans_on.length}`)).toEqual([
      ...['full on 0', 'incremental on 1', 'differential on 1', 'incremental on 2'],
      ...['full on 0', 'full on 0', 'full on 0', 'incremental on 1'],
    ])
    expect(all.map(({ attempts }) => attempts)[4]).toEqual([1, 2, 3])
    expect(all.map(({ packs }) => packs)[4]).toBe(3)
    expect(all.map(({ opened_by }) => opened_by.join())).toEqual([
      ...['fleet', 'fleet', 'fleet', 'fleet', 'fleet,recovery', '', 'rotated', 'rotated'],
    ])
    const history = [...manifests].map(([place, { facts, commit }]) => {
      const { sha256 } = verifyManifest(objects.objects.get(`${place}/manifest.json`) as Buffer)
      return { host: facts.host, source: facts.source, id: facts.id, commit, sha256: sha256.toString('hex') }
    })
    expect(verifyHistory(history)).toEqual([])
  })

  test('still verifies, and restores every stream and every entry, by each identity that it was made for', async () => {
    for (const [place, backup] of places) {
      for (const name of backup.opened_by) {
        const errors: unknown[] = []
        const reader = await openReader(options(place, await keysOf(identityOf(name))))
        // after a rotation the file of the facts may be gone
        await reader.verify({ onError: (error) => error.key.includes('/keys/') || errors.push(error) })
        expect(errors).toEqual([])
        expect(await restoredArtifacts(reader)).toEqual(backup.artifacts)
      }
    }
  })

  test('still opens for nobody else', async () => {
    for (const [place, backup] of places) {
      for (const name of ['fleet', 'recovery', 'rotated', 'agent']) {
        if (backup.opened_by.includes(name)) continue
        const read = async () => restoredArtifacts(await openReader(options(place, await keysOf(identityOf(name)))))
        await expect(read()).rejects.toMatchObject({ code: 'key_missing' })
      }
    }
  })

  test('is still a base: its index opens for the agent, and the list of known chunks comes of it', async () => {
    for (const [place] of places) {
      const { facts } = manifests.get(place) as Manifest
      const { sha256 } = verifyManifest(objects.objects.get(`${place}/manifest.json`) as Buffer)
      const base = { host: facts.host, source: facts.source, id: facts.id, manifestSha256: sha256 }
      const lists = { folder: temporaryFolder(), scratch: temporaryFolder() }
      const known = await rebuildKnown({ ...lists, base, objects, agentIdentity: identityOf('agent'), signal })
      expect(known.baseId).toBe(facts.id)
      await known.close()
    }
  })
})
