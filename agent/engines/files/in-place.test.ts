import { createHash } from 'node:crypto'
import * as fs from 'node:fs'
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import { HoldfastError } from '../../../shared/errors.ts'
import type { Manifest } from '../../../shared/manifest/manifest.ts'
import { seededBytes } from '../../../shared/repository/testing/content.ts'
import { TestFleet } from '../../../shared/repository/testing/fleet.ts'
import { MemoryObjects } from '../../../shared/repository/testing/memory-objects.ts'
import { runCommand } from '../../../test/harness/commands.ts'
import { backupPlan, failureOf, withRun } from '../testing/plans.ts'
import { filesEngine } from './files.ts'
import { Workshop } from './tree.fixture.ts'

/** A restore over what exists, from a repository whose reads are counted. */

const MIB = 1024 * 1024
const LARGE = 12 * MIB
const BLOCK = 2 * MIB

let shop: Workshop
let fleet: TestFleet
let manifest: Manifest
let before: string[]
beforeEach(async () => {
  shop = await Workshop.open()
  fs.mkdirSync(shop.at('sub'), { recursive: true })
  fs.writeFileSync(shop.at('large'), seededBytes(1, LARGE))
  for (let n = 0; n < 40; n++) fs.writeFileSync(shop.at('sub', `small ${n}`), seededBytes(n + 9, 30_000))
  fs.linkSync(shop.at('sub', 'small 3'), shop.at('other name'))
  before = inventory(shop.root)
  fleet = await TestFleet.create()
  manifest = await fleet.backup(0, (sink) => withRun((run) => filesEngine.backup(backupPlan(shop.config()), sink, run)))
})
afterEach(() => shop.dispose())

/** Every name with its kind, mode, time and content. */
function inventory(root: string): string[] {
  return ['', ...(fs.readdirSync(root, { recursive: true }) as string[]).sort()].map((name) => {
    const stat = fs.lstatSync(`${root}/${name}`)
    const content = stat.isFile()
      ? createHash('sha256')
          .update(fs.readFileSync(`${root}/${name}`))
          .digest('hex')
      : ''
    return [name, stat.mode.toString(8), stat.mtimeMs, stat.nlink, content].join(' ')
  })
}

interface Restored {
  readonly fetched: number
  readonly found: number
}

async function restore(more: { parts?: string[]; overwrite?: boolean; targetName?: string | null } = {}): Promise<Restored> {
  const reader = await fleet.reader(manifest)
  fleet.objects.gets = []
  try {
    await shop.restore(reader, more.targetName ?? null, { overwrite: true, ...more })
  } finally {
    await reader.close()
  }
  return { fetched: fleet.objects.gets.reduce((sum, { length }) => sum + length, 0), found: reader.totals.foundBytes }
}

const whole = LARGE + 40 * 30_000

test('over a tree that is as it was: no content is fetched, and the new files are files of their own', async () => {
  const old = fs.openSync(shop.at('large'), 'r+')
  onTestFinished(() => fs.closeSync(old))
  const { fetched, found } = await restore()
  expect(fetched).toBeLessThan(whole / 20)
  expect(found).toBe(whole)
  // who has the old one open writes into that
  fs.writeSync(old, 'written later', 0)
  expect(fs.fstatSync(old).nlink).toBe(0)
  expect(inventory(shop.root)).toEqual(before)
  expect(fs.readdirSync(shop.folder)).toEqual(['tree'])
})

test('into a new name everything is fetched, whatever lies beside it', async () => {
  const { fetched, found } = await restore({ targetName: 'copy', overwrite: false })
  expect([fetched > whole * 0.9, found]).toEqual([true, 0])
})

describe('what was changed is fetched, and no more than the blocks that it lies in', () => {
  const large = () => shop.at('large')
  /** The same length, and the times that it had. */
  const rewrite = (write: (fd: number) => void) => {
    const { atime, mtime } = fs.statSync(large())
    const fd = fs.openSync(large(), 'r+')
    write(fd)
    fs.closeSync(fd)
    fs.utimesSync(large(), atime, mtime)
  }
  const replace = (make: () => unknown) => {
    fs.renameSync(large(), shop.beside('moved'))
    return make()
  }

  test.each<[string, number, () => unknown]>([
    ['changed in the middle', BLOCK, () => rewrite((fd) => fs.writeSync(fd, 'changed', LARGE / 2))],
    ['truncated', 2 * BLOCK, () => fs.truncateSync(large(), LARGE - MIB)],
    ['grown', 0, () => fs.appendFileSync(large(), seededBytes(7, MIB))],
    ['of other content, the same length and time', LARGE, () => rewrite((fd) => fs.writeSync(fd, seededBytes(8, LARGE)))],
    ['removed', LARGE, () => fs.rmSync(large())],
    ['replaced by a link to itself elsewhere', LARGE, () => replace(() => fs.symlinkSync('../moved', large()))],
    ['replaced by a FIFO', LARGE, () => replace(() => runCommand('mkfifo', [large()]))],
    ['replaced by a folder', LARGE, () => replace(() => fs.mkdirSync(large()))],
  ])('a file that was %s', async (_, bytes, change) => {
    await change()
    const { fetched, found } = await restore()
    fs.rmSync(shop.beside('moved'), { force: true })
    expect(inventory(shop.root)).toEqual(before)
    expect(fetched).toBeLessThan(bytes + BLOCK)
    expect(found).toBeGreaterThan(whole - bytes - BLOCK)
    expect(found < whole).toBe(bytes > 0)
    expect(fs.readdirSync(shop.folder)).toEqual(['tree'])
  })

  test('no link is followed, though what it leads to has the content', async () => {
    fs.renameSync(shop.at('sub'), shop.beside('elsewhere'))
    fs.symlinkSync('../elsewhere', shop.at('sub'))
    // the first name of one of them is not in there
    expect((await restore()).found).toBe(LARGE + 30_000)
    expect(inventory(shop.root)).toEqual(before)
    expect(fs.readdirSync(shop.beside('elsewhere'))).toHaveLength(40)
  })

  test('a target that is a link or a file is replaced, and nothing is looked for in it', async () => {
    fs.renameSync(shop.root, shop.beside('elsewhere'))
    fs.writeFileSync(shop.root, 'a file')
    expect((await restore()).found).toBe(0)
    expect(inventory(shop.root)).toEqual(before)
  })

  test('chosen parts look at what they replace', async () => {
    fs.writeFileSync(shop.at('sub', 'small 5'), 'changed')
    const { fetched, found } = await restore({ parts: ['sub'] })
    expect(found).toBe(39 * 30_000)
    expect(fetched).toBeLessThan(BLOCK)
    expect(fs.readFileSync(shop.at('sub', 'small 5')).equals(seededBytes(14, 30_000))).toBe(true)
  })
})

describe('what a killed restore has left', () => {
  /** As one leaves it whose process was killed in the middle of a file. */
  function leave(length: number, place = shop.beside('copy'), random = '0000000001'): string {
    const tag = createHash('sha256').update(place).digest('hex').slice(0, 12)
    const folder = shop.beside(`.holdfast-new-${tag}-${random}`)
    fs.mkdirSync(folder, { mode: 0o700 })
    fs.writeFileSync(`${folder}/large`, seededBytes(1, LARGE).subarray(0, length))
    return folder
  }

  test('is not fetched again by the next one, and is gone after it', async () => {
    leave(LARGE / 2 + 5)
    const { fetched, found } = await restore({ targetName: 'copy', overwrite: false })
    expect(found).toBeGreaterThan(LARGE / 2 - BLOCK)
    expect(fetched).toBeLessThan(whole - LARGE / 2 + BLOCK)
    expect(inventory(shop.beside('copy'))).toEqual(before)
    expect(fs.readdirSync(shop.folder).sort()).toEqual(['copy', 'tree'])
  })

  test('fills up what the place itself lacks', async () => {
    fs.truncateSync(shop.at('large'), 10)
    leave(LARGE - MIB, shop.root)
    const { fetched } = await restore()
    expect(fetched).toBeLessThan(2 * BLOCK)
    expect(inventory(shop.root)).toEqual(before)
  })

  test('may be of several, of which the newest two are kept until then', async () => {
    for (const n of [1, 2, 3]) fs.utimesSync(leave(n * MIB, shop.beside('copy'), `000000000${n}`), n, n)
    const { found } = await restore({ targetName: 'copy', overwrite: false })
    expect(found).toBeGreaterThan(MIB)
    expect(fs.readdirSync(shop.folder).sort()).toEqual(['copy', 'tree'])
  })

  test('is removed by one that fails, too', async () => {
    leave(LARGE / 2)
    vi.spyOn(fleet.objects, 'get').mockImplementation((key, range, signal) => {
      if ((range?.length ?? 0) > MIB / 4) throw new HoldfastError('object_missing', `${key} is missing`)
      return MemoryObjects.prototype.get.call(fleet.objects, key, range, signal)
    })
    const failure = await failureOf(restore({ targetName: 'copy', overwrite: false }))
    expect(failure).toMatchObject({ code: 'object_missing' })
    expect(fs.readdirSync(shop.folder)).toEqual(['tree'])
  })
})
