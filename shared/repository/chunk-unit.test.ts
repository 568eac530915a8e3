import { beforeEach, describe, expect, test } from 'vitest'
import type { BackupSink } from '../artifacts.ts'
import { Secret } from '../secret.ts'
import { chunkUnitFor } from './chunk-unit.ts'
import { dropKnown } from './known.ts'
import { rebuildKnown } from './known-rebuild.ts'
import { collect, pieces, seededBytes } from './testing/content.ts'
import { TestFleet } from './testing/fleet.ts'
import { temporaryFolder } from './testing/temporary-folders.ts'

const TB = 1e12
const bytes = seededBytes(5, 12_000_000)
const write = (sink: BackupSink) =>
  sink.stream({ name: 'dump', chunking: { kind: 'content-defined', averageBytes: 65_536 } }, pieces(bytes))

let fleet: TestFleet
beforeEach(async () => {
  fleet = await TestFleet.create()
})

const chunks = () => fleet.lastTotals?.chunks ?? 0

describe('the unit of chunks', () => {
  test('is 64 KiB up to 1 TB, 256 KiB up to 10 TB, 1 MiB above', () => {
    expect([0, TB, TB + 1, 10 * TB, 10 * TB + 1].map(chunkUnitFor)).toEqual([null, null, 262_144, 262_144, 1_048_576])
  })

  test.each([
    [1, 65_536],
    [2 * TB, 262_144],
    [20 * TB, 1_048_576],
  ])('of a source of %d bytes is about %d bytes, and it restores', async (sourceBytes, unit) => {
    const full = await fleet.backup(0, write, { sourceBytes: () => sourceBytes })
    expect(bytes.length / chunks()).toBeGreaterThan(unit / 2)
    expect(bytes.length / chunks()).toBeLessThan(unit * 2)
    const reader = await fleet.reader(full)
    expect((await collect(reader.openStream('dump'))).equals(bytes)).toBe(true)
    await reader.close()
  })

  test.each([
    [{ kind: 'fixed', bytes: 8192 }, Math.ceil(bytes.length / 8192)],
    [{ kind: 'fixed', bytes: 4096 }, Math.ceil(bytes.length / 4096)],
  ] as const)('is what a policy asks for, whatever the engine and the size say: %o', async (chunking, count) => {
    const full = await fleet.backup(0, write, { chunking, sourceBytes: () => 2 * TB })
    expect(chunks()).toBe(count)
    const reader = await fleet.reader(full)
    expect((await collect(reader.openStream('dump'))).equals(bytes)).toBe(true)
    await reader.close()
  })

  test('is fixed at a full: what leans on it keeps it, however large the source is by then, also by a list made again from the index', async () => {
    const full = await fleet.backup(0, write, { sourceBytes: () => 2 * TB })
    const large = chunks()
    const incremental = await fleet.backup(1, write, { base: full, sourceBytes: () => 1 })
    expect(fleet.lastTotals).toMatchObject({ chunks: large, chunksSkipped: large })
    await dropKnown(fleet.knownFolder, [])
    const { facts } = incremental
    const known = await rebuildKnown({
      folder: fleet.knownFolder,
      scratch: temporaryFolder(),
      base: { host: facts.host, source: facts.source, id: facts.id, manifestSha256: fleet.sha256(incremental) },
      objects: fleet.objects,
      agentIdentity: new Secret(fleet.agentIdentity.reveal()),
      signal: new AbortController().signal,
    })
    await known.close()
    await fleet.backup(2, write, { base: incremental, sourceBytes: () => 20 * TB })
    expect(fleet.lastTotals).toMatchObject({ chunks: large, chunksSkipped: large })
    await fleet.backup(3, write, { sourceBytes: () => 1 })
    expect(chunks()).toBeGreaterThan(large * 2)
  })
})
