import { readFileSync } from 'node:fs'
import { beforeAll, describe, expect, test } from 'vitest'
import type { TreeEntry } from '../artifacts.ts'
import type { Manifest } from '../manifest/manifest.ts'
import { verifyManifest } from '../manifest/verify.ts'
import { Secret } from '../secret.ts'
import { openDataKeys } from './keys.ts'
import { rebuildKnown } from './known-rebuild.ts'
import { openReader } from './reader.ts'
import type { ReaderOptions } from './repository.ts'
import { collect, contentOf } from './testing/content.ts'
import { temporaryFolder } from './testing/fleet.ts'
import { GOLDEN_STREAMS, goldenTree } from './testing/golden-content.ts'
import { MemoryObjects } from './testing/memory-objects.ts'

/** A repository that an earlier version wrote: every later one has to restore it. */
const golden = JSON.parse(readFileSync(new URL('testing/golden-v1.json', import.meta.url), 'utf8'))
const objects = new MemoryObjects()
const manifests: Manifest[] = []
const keys = new Map<string, Secret<Buffer>>()
const signal = new AbortController().signal

beforeAll(async () => {
  for (const [key, bytes] of Object.entries(golden.objects)) objects.put(key, Buffer.from(bytes as string, 'base64'))
  for (const [key, bytes] of objects.objects) {
    if (key.endsWith('manifest.json')) manifests.push(verifyManifest(bytes, { verifyingKey: golden.verifying_key }, key).manifest)
    if (!key.includes('/keys/')) continue
    const opened = await openDataKeys(bytes, [new Secret(golden.identity)])
    for (const row of opened.keys) keys.set(`${opened.backup.id}/${row.attempt}`, row.dataKey)
  }
  manifests.sort((a, b) => a.commit.sequence - b.commit.sequence)
})

const options = (manifest: Manifest): ReaderOptions => ({
  manifest,
  leansOn: new Map(manifest.facts.leans_on.map(({ id }) => [id, manifests.find(({ facts }) => facts.id === id) as Manifest])),
  keys: (id, attempt) => keys.get(`${id}/${attempt}`),
  objects,
  signal,
})

describe('a repository of format 1 as its first version wrote it', () => {
  test('still verifies', async () => {
    for (const manifest of manifests) {
      const errors: unknown[] = []
      await (await openReader(options(manifest))).verify({ onError: (error) => errors.push(error) })
      expect(errors).toEqual([])
    }
    expect(manifests.map(({ facts }) => facts.leans_on.length)).toEqual([0, 1])
  })

  test('still restores, every stream and every entry', async () => {
    for (const [day, manifest] of manifests.entries()) {
      const reader = await openReader(options(manifest))
      for (const [name, bytes] of Object.entries(GOLDEN_STREAMS[day] ?? {}))
        expect((await collect(reader.openStream(name))).equals(bytes)).toBe(true)
      const expected = goldenTree(day)
      let n = 0
      for await (const entry of reader.openTree('tree')) {
        const { content, ...meta } = expected[n++] as TreeEntry & {
          content?: { read(): AsyncIterable<{ offset: number; bytes: Buffer }> }
        }
        expect(entry).toMatchObject(meta)
        if (!content) continue
        const whole = Buffer.alloc(meta.size)
        for await (const { offset, bytes } of content.read()) bytes.copy(whole, offset)
        expect((await contentOf(entry)).equals(whole)).toBe(true)
      }
      expect(n).toBe(expected.length)
    }
  })

  test('is still a base: its index opens for the agent, and the list of known chunks comes of it', async () => {
    const { facts } = manifests[1] as Manifest
    const bytes = objects.objects.get(`${facts.host}/${facts.source}/${facts.id}/manifest.json`) as Buffer
    const { sha256 } = verifyManifest(bytes)
    const base = { host: facts.host, source: facts.source, id: facts.id, manifestSha256: sha256 }
    const agentIdentity = new Secret(golden.agent_identity)
    const known = await rebuildKnown({
      folder: temporaryFolder(),
      scratch: temporaryFolder(),
      base,
      objects,
      agentIdentity,
      signal,
    })
    expect(known.baseId).toBe(facts.id)
    await known.close()
  })
})
