import * as fs from 'node:fs'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { memorySink } from '../testing/memory.ts'
import { backupPlan, withRun } from '../testing/plans.ts'
import { filesEngine } from './files.ts'
import { isRoot } from './odd-tree.fixture.ts'
import { codes, Workshop } from './tree.fixture.ts'

let shop: Workshop
beforeEach(async () => {
  shop = await Workshop.open()
  fs.mkdirSync(shop.root)
  for (const name of ['a', 'b', 'c']) fs.writeFileSync(shop.at(name), name.repeat(3_000_000))
})
afterEach(() => shop.dispose())

const once = (work: () => void) => {
  let done = false
  return () => {
    if (!done) work()
    done = true
  }
}
/** Until the file system's clock has gone on, so that the times of what was written tell it from what comes later. */
const settle = () => fs.utimesSync(shop.at('a'), 1, 1)
const content = (taken: Awaited<ReturnType<Workshop['take']>>, name: string) => {
  const stored = taken.backup.trees.get('tree')?.entries.find(({ entry }) => entry.path.toString() === name)
  return (
    stored && {
      size: stored.entry.size,
      identity: stored.identity,
      text: Buffer.concat(stored.extents.map(({ bytes }) => bytes)),
    }
  )
}

test('a file that changes while it is read is in the backup, with a finding, and is read again next time', async () => {
  const taken = await shop.take({ onBytes: once(() => fs.writeFileSync(shop.at('a'), 'x'.repeat(3_000_000))) })
  expect(taken.findings).toMatchObject([{ code: 'file_changed', severity: 'warning', message: expect.stringContaining('"a"') }])
  expect(content(taken, 'a')).toMatchObject({ size: 3_000_000, identity: null })
  const next = await shop.take({ base: taken.backup })
  expect(content(next, 'a')?.text.equals(Buffer.from('x'.repeat(3_000_000)))).toBe(true)
})

test('a file that grows while it is read keeps the length it had: no hole takes the place of what was not read', async () => {
  const taken = await shop.take({ onBytes: once(() => fs.appendFileSync(shop.at('a'), 'more')) })
  const stored = content(taken, 'a')
  expect([stored?.size, stored?.text.equals(Buffer.from('a'.repeat(3_000_000)))]).toEqual([3_000_000, true])
  expect(codes(taken.findings)).toEqual(['file_changed'])
})

test('a file that is cut off while it is read has the length that was read, and the fingerprint says so', async () => {
  const taken = await shop.take({ onBytes: once(() => fs.truncateSync(shop.at('a'), 2_000_000)) })
  expect(content(taken, 'a')?.size).toBeLessThan(3_000_000)
  await shop.restore(taken.source, 'copy')
  const place = { config: shop.config(), targetName: 'copy' }
  expect(await withRun((run) => filesEngine.check(place, taken.fingerprint, run))).toEqual([])
})

test('a small file that changes while it is read is in the backup as it was read, with a finding, and is read again next time', async () => {
  fs.writeFileSync(shop.at('a'), 'a'.repeat(100_000))
  const change = [
    () => fs.writeFileSync(shop.at('a'), 'x'.repeat(100_000)),
    () => fs.appendFileSync(shop.at('a'), 'more'),
    () => fs.truncateSync(shop.at('a'), 10),
  ]
  for (const onBytes of change) {
    fs.writeFileSync(shop.at('a'), 'a'.repeat(100_000))
    const taken = await shop.take({ onBytes: once(onBytes) })
    expect(content(taken, 'a')).toEqual({ size: 100_000, identity: null, text: Buffer.from('a'.repeat(100_000)) })
    expect(codes(taken.findings)).toEqual(['file_changed'])
  }
})

test('a small file that is cut off before it is read has the length that was read, and the fingerprint says so', async () => {
  fs.writeFileSync(shop.at('b'), 'b'.repeat(100_000))
  // it is listed after a, and read after it is listed
  const list = once(() => fs.truncateSync(shop.at('b'), 5000))
  const { sink, backup } = memorySink()
  const fingerprint = await withRun((run) =>
    filesEngine.backup(
      backupPlan(shop.config()),
      {
        ...sink,
        tree: (meta, entries) =>
          sink.tree(
            meta,
            (async function* () {
              for await (const entry of entries) {
                if (entry.path.toString() === 'b') list()
                yield entry
              }
            })(),
          ),
      },
      run,
    ),
  )
  const stored = backup.trees.get('tree')?.entries.find(({ entry }) => entry.path.toString() === 'b')
  expect([stored?.entry.size, stored?.extents.map(({ bytes }) => bytes.length)]).toEqual([5000, [5000]])
  const place = { config: shop.config(), targetName: null }
  expect(await withRun((run) => filesEngine.check(place, fingerprint, run))).toEqual([])
})

test('small files are read as one extent where they have no hole, and keep the holes that they have', async () => {
  const MOST = 100_000
  const write = (name: string, pieces: ReadonlyArray<readonly [number, string]>, size: number) => {
    const fd = fs.openSync(shop.at(name), 'w')
    for (const [at, text] of pieces) fs.writeSync(fd, text.repeat(4096), at)
    fs.ftruncateSync(fd, size)
    fs.closeSync(fd)
  }
  write('first', [[65_536, 'x']], 65_536 + 4096)
  write('last', [[0, 'x']], MOST)
  write(
    'middle',
    [
      [0, 'x'],
      [65_536, 'y'],
    ],
    65_536 + 4096,
  )
  write('nothing', [], MOST)
  write('empty', [], 0)
  fs.writeFileSync(shop.at('full'), 'z'.repeat(MOST))
  const taken = await shop.take()
  const extents = (name: string) => {
    const stored = taken.backup.trees.get('tree')?.entries.find(({ entry }) => entry.path.toString() === name)
    return [stored?.entry.size, stored?.extents.map(({ offset, bytes }) => [offset, bytes.length])]
  }
  expect(extents('first')).toEqual([65_536 + 4096, [[65_536, 4096]]])
  expect(extents('last')).toEqual([MOST, [[0, 4096]]])
  expect(extents('middle')).toEqual([
    65_536 + 4096,
    [
      [0, 4096],
      [65_536, 4096],
    ],
  ])
  expect(extents('nothing')).toEqual([MOST, []])
  expect(extents('empty')).toEqual([0, []])
  expect(extents('full')).toEqual([MOST, [[0, MOST]]])
})

test('files and folders that vanish are left out, with a finding, and not counted', async () => {
  fs.mkdirSync(shop.at('d'))
  fs.writeFileSync(shop.at('d', 'inside'), 'x')
  const vanish = once(() => {
    fs.rmSync(shop.at('b'))
    fs.rmSync(shop.at('d'), { recursive: true })
  })
  const taken = await shop.take({ onBytes: vanish })
  expect(taken.paths).toEqual(['', 'a', 'c'])
  expect(new Set(codes(taken.findings))).toEqual(new Set(['file_vanished']))
  expect(taken.fingerprint.counts).toMatchObject({ files: 2, folders: 1 })
})

test('when the first name of a file vanishes, the next one gets its content', async () => {
  fs.linkSync(shop.at('b'), shop.at('b-too'))
  fs.linkSync(shop.at('b'), shop.at('c-too'))
  const taken = await shop.take({ onBytes: once(() => fs.rmSync(shop.at('b'))) })
  expect(content(taken, 'b')).toBeUndefined()
  expect(content(taken, 'b-too')?.text.equals(Buffer.from('b'.repeat(3_000_000)))).toBe(true)
  await shop.restore(taken.source, 'copy')
  expect(fs.statSync(shop.beside('copy', 'c-too')).ino).toBe(fs.statSync(shop.beside('copy', 'b-too')).ino)
})

test('a folder that is swapped for a link while the tree is read leads nobody out of it', async () => {
  fs.mkdirSync(shop.beside('private'))
  fs.writeFileSync(shop.beside('private', 'inside'), 'a secret of someone else')
  fs.mkdirSync(shop.at('d'))
  fs.writeFileSync(shop.at('d', 'inside'), 'harmless')
  const swap = once(() => {
    fs.renameSync(shop.at('d'), shop.beside('moved'))
    fs.symlinkSync(shop.beside('private'), shop.at('d'))
  })
  const seen: string[] = []
  const { sink } = memorySink()
  await withRun((run) =>
    filesEngine.backup(
      backupPlan(shop.config()),
      {
        ...sink,
        async tree(meta, entries) {
          for await (const entry of entries) {
            // between the listing of the folder and the opening of what is in it
            if (entry.path.toString() === 'd') swap()
            if (!entry.content) continue
            try {
              for await (const { bytes } of {
                [Symbol.asyncIterator]: () => entry.content?.read() as AsyncGenerator<{ bytes: Buffer }>,
              }) {
                seen.push(bytes.toString())
              }
            } catch (error) {
              expect(error).toMatchObject({ code: 'source_missing' })
            }
          }
          return sink.tree(meta, (async function* () {})())
        },
      },
      run,
    ),
  )
  expect(seen.join()).not.toContain('secret')
})

test('unchanged files are not read again; one that was changed with its time put back is', async () => {
  settle()
  const old = new Date(Date.UTC(2020, 0, 1))
  for (const name of ['a', 'b', 'c']) fs.utimesSync(shop.at(name), old, old)
  await withRun((run) => run.clock.sleep(60))
  const first = await shop.take()
  fs.writeFileSync(shop.at('b'), 'B'.repeat(3_000_000))
  fs.utimesSync(shop.at('b'), old, old)
  let read = 0
  const { sink, backup } = memorySink({ base: first.backup, onBytes: (total) => (read = total) })
  await withRun(async (run) => {
    let digest: unknown
    await filesEngine.backup(
      backupPlan(shop.config()),
      { ...sink, tree: async (...args) => (digest = await sink.tree(...args)) as never },
      run,
    )
    expect(digest).toMatchObject({ unchanged: 2 })
  })
  expect(read).toBe(3_000_000)
  expect(backup.trees.get('tree')?.entries).toHaveLength(4)
})

describe.runIf(isRoot)('as a user who may not read everything', () => {
  const asNobody = async <T>(work: () => Promise<T>): Promise<T> => {
    fs.chmodSync(shop.folder, 0o777)
    process.seteuid?.(65_534)
    try {
      return await work()
    } finally {
      process.seteuid?.(0)
    }
  }

  test('what cannot be read is an error among the findings, and the rest is in the backup', async () => {
    fs.chmodSync(shop.at('b'), 0o600)
    fs.mkdirSync(shop.at('closed'), 0o700)
    const taken = await asNobody(() => shop.take())
    expect(taken.findings).toMatchObject([
      { code: 'file_unreadable', severity: 'error' },
      { code: 'folder_unreadable', severity: 'error' },
    ])
    expect(taken.paths).toEqual(['', 'a', 'c', 'closed'])
  })

  test('a restore says what it could not give back, and makes nothing set-uid for itself', async () => {
    fs.chmodSync(shop.at('a'), 0o4755)
    const taken = await shop.take()
    const findings = await asNobody(() => shop.restore(taken.source, 'copy'))
    expect(new Set(codes(findings))).toEqual(new Set(['owner_not_restored']))
    expect(fs.statSync(shop.beside('copy', 'a')).mode & 0o7777).toBe(0o755)
    expect(fs.readFileSync(shop.beside('copy', 'b'), 'utf8')).toBe('b'.repeat(3_000_000))
  })

  test('a root folder that cannot be read fails the backup', async () => {
    fs.chmodSync(shop.root, 0o700)
    await expect(asNobody(() => shop.take())).rejects.toMatchObject({ code: 'source_denied' })
  })
})
