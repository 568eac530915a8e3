import { closeSync, openSync, readdirSync, readlinkSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import type { Manifest } from '../manifest/manifest.ts'
import { MIB } from './format.ts'
import { openReader } from './reader.ts'
import { Spill } from './spill.ts'
import { pieces, seededBytes } from './testing/content.ts'
import { TestFleet } from './testing/fleet.ts'
import { temporaryFolder } from './testing/temporary-folders.ts'

/** More blocks by turns than are held open. */
const BLOCKS = 40
const PAGE = 128 * 1024
const chunking = { kind: 'fixed', bytes: PAGE } as const

let fleet: TestFleet
let manifest: Manifest
let mixed: Buffer
beforeAll(async () => {
  fleet = await TestFleet.create()
  const parts = Array.from({ length: BLOCKS }, (_, n) => seededBytes(n, MIB))
  const pages = Array.from({ length: MIB / PAGE }, (_, at) => parts.map((part) => part.subarray(at * PAGE, (at + 1) * PAGE)))
  mixed = Buffer.concat(pages.flat())
  const base = await fleet.backup(0, async (sink) => {
    for (const [n, part] of parts.entries()) await sink.stream({ name: `${n}`, chunking }, pieces(part))
  })
  manifest = await fleet.backup(1, (sink) => sink.stream({ name: 'mixed', chunking }, pieces(mixed)), { base })
})

/** Bytes that were fetched for the stream, which has to come back. */
async function fetchedFor(scratch: string | undefined, meanwhile: (piece: number) => void = () => undefined): Promise<number> {
  const reader = await openReader({ ...(await fleet.readerOptions(manifest)), ...(scratch ? { scratch } : {}) })
  onTestFinished(() => reader.close())
  fleet.objects.gets = []
  let at = 0
  let piece = 0
  for await (const bytes of reader.openStream('mixed')) {
    meanwhile(piece++)
    if (!bytes.equals(mixed.subarray(at, at + bytes.length))) throw new Error(`other bytes at ${at}`)
    at += bytes.length
  }
  expect(at).toBe(mixed.length)
  await reader.close()
  return fleet.objects.gets.reduce((sum, { length }) => sum + length, 0)
}

/** Files without a name that this process has open for spilling. */
const open = () =>
  readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).includes('/spill-') ? [`/proc/self/fd/${fd}`] : []
    } catch {
      // the folder's own
      return []
    }
  })

describe('a block that is wanted again and again', () => {
  test('is fetched twice at most: then it lies in the scratch folder, in a file without a name', async () => {
    const scratch = temporaryFolder()
    let seen = 0
    const fetched = await fetchedFor(scratch, (piece) => {
      if (piece % 20 !== 0) return
      seen = Math.max(seen, open().length)
      expect(readdirSync(scratch)).toEqual([])
    })
    expect(fetched).toBeLessThan(mixed.length * 2.3)
    expect(await fetchedFor(undefined)).toBeGreaterThan(mixed.length * 4)
    if (process.platform === 'linux') expect([seen, open().length]).toEqual([1, 0])
  })

  test('is fetched again where the scratch folder cannot be written', async () => {
    expect(await fetchedFor(path.join(tmpdir(), 'not', 'there'))).toBeGreaterThan(mixed.length * 4)
  })

  test.runIf(process.platform === 'linux')('is fetched again where the disk gives back something else', async () => {
    let spoiled = 0
    await fetchedFor(temporaryFolder(), (piece) => {
      for (const file of piece % 20 === 0 ? open() : []) {
        const fd = openSync(file, 'r+')
        for (let at = 0; at < BLOCKS; at += 3) writeSync(fd, 'x', at * MIB + 5)
        closeSync(fd)
        spoiled++
      }
    })
    expect(spoiled).toBeGreaterThan(5)
  })
})

describe('the file', () => {
  const block = (n: number, length = 300) => seededBytes(n, length)
  const twice = (spill: Spill, name: string, bytes: Buffer) => {
    spill.note(name, bytes)
    spill.note(name, bytes)
  }
  function spill(most: number, folder = temporaryFolder()): Spill {
    const made = new Spill(folder, most)
    onTestFinished(() => made.close())
    return made
  }

  test('holds what was fetched twice, up to its size: what is older gives way', () => {
    const kept = spill(1000)
    kept.note('once', block(0))
    expect(kept.has('once')).toBe(false)
    for (const n of [1, 2, 3, 4]) twice(kept, `${n}`, block(n))
    expect([1, 2, 3, 4].map((n) => kept.has(`${n}`))).toEqual([false, true, true, true])
    for (const n of [2, 3, 4]) expect(kept.take(`${n}`)?.equals(block(n))).toBe(true)
    twice(kept, 'larger than all of it', block(5, 1001))
    expect(kept.has('larger than all of it')).toBe(false)
    kept.forget('3')
    expect(kept.take('3')).toBe(null)
  })

  test('that cannot be written is not tried again', () => {
    const kept = spill(1000, '/nowhere/at/all')
    twice(kept, 'a', block(1))
    twice(kept, 'a', block(1))
    expect([kept.has('a'), kept.take('a')]).toEqual([false, null])
  })
})
