import * as fs from 'node:fs'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { Beneath } from './beneath.ts'
import { describeEntry } from './entry.ts'
import type * as posix from './posix.ts'
import { Report } from './report.ts'
import { hasSameIdentity, identityOf, inodeOf, isSameFile, mtimeNsOf, statusOf, statusOfFile, typeOf } from './status.ts'
import { Workshop } from './tree.fixture.ts'

/** Whether the kernel has the calls by an open folder; how often they answered. */
const state = vi.hoisted(() => ({ has: true, answers: 0 }))

vi.mock('./posix.ts', async (original) => {
  const real = await original<typeof posix>()
  const counted = <T>(answer: () => T | null): T | null => {
    const given = state.has ? answer() : null
    if (given) state.answers++
    return given
  }
  return {
    ...real,
    statusAt: (folder: number, name: Buffer) => counted(() => real.statusAt(folder, name)),
    statusOfOpen: (fd: number) => counted(() => real.statusOfOpen(fd)),
    listAttributesAt: (folder: number, name: Buffer) => counted(() => real.listAttributesAt(folder, name)),
  }
})

const { makeOddTree } = await import('./odd-tree.fixture.ts')

let shop: Workshop
let tree: Beneath
beforeEach(async () => {
  Object.assign(state, { has: true, answers: 0 })
  shop = await Workshop.open()
  await makeOddTree(shop.root)
  tree = new Beneath(Buffer.from(shop.root))
})
afterEach(() => {
  tree.close()
  return shop.dispose()
})

/** Every path of the tree, the root first. */
function paths(within: Buffer = Buffer.alloc(0)): Buffer[] {
  const address = Buffer.concat([Buffer.from(`${shop.root}/`), within])
  if (!fs.lstatSync(address).isDirectory()) return [within]
  const names = fs.readdirSync(address, { encoding: 'buffer' })
  const join = (name: Buffer) => (within.length === 0 ? name : Buffer.concat([within, Buffer.from('/'), name]))
  return [within, ...names.flatMap((name) => paths(join(name)))]
}

const nodes = (path: Buffer) => fs.lstatSync(Buffer.concat([Buffer.from(`${shop.root}/`), path]), { bigint: true })
const report = new Report({ finding: () => undefined } as never)

test('the kernel is asked by an open folder, and says of every kind of entry what Node says', () => {
  const all = paths()
  for (const path of all) {
    const status = statusOf(tree, path)
    const { dev, ino, size, mtimeNs, ctimeNs, ...rest } = nodes(path)
    expect(identityOf(status)).toBe([dev, ino, size, mtimeNs, ctimeNs].join(':'))
    expect(inodeOf(status)).toBe(`${dev}:${ino}`)
    expect(mtimeNsOf(status)).toBe(mtimeNs)
    const { mode, links, uid, gid } = status
    expect([mode, links, uid, gid].map(BigInt)).toEqual([rest.mode, rest.nlink, rest.uid, rest.gid])
  }
  expect(all.length).toBeGreaterThan(70)
  if (process.platform === 'linux') expect(state.answers).toBe(all.length)
})

test('where the kernel lacks these calls, entries are described the same, attributes too', () => {
  const describe = () => paths().map((path) => describeEntry(tree, path, statusOf(tree, path), report))
  const [first, identities] = [describe(), paths().map((path) => identityOf(statusOf(tree, path)))]
  expect(first.some(({ xattrs }) => xattrs)).toBe(true)
  const answers = state.answers
  state.has = false
  expect(describe()).toEqual(first)
  expect(paths().map((path) => identityOf(statusOf(tree, path)))).toEqual(identities)
  expect(state.answers).toBe(answers)
})

test('times before 1970 and inode numbers that a number cannot hold are told exactly', () => {
  const status = { ...statusOf(tree, Buffer.from('docs/readme.txt')), dev: 7n, size: 3 }
  const times = { mtime: -1, mtimeNanos: 999_999_999, ctime: 0, ctimeNanos: 5 }
  expect(identityOf({ ...status, ...times, inodeHigh: 0xffff_ffff, inodeLow: 0xffff_fffe })).toBe('7:18446744073709551614:3:-1:5')
  expect(identityOf({ ...status, ...times, inodeHigh: 1, inodeLow: 1, mtime: 12, mtimeNanos: 34 })).toBe(
    '7:4294967297:3:12000000034:5',
  )
  expect(mtimeNsOf({ ...status, mtime: -86_401, mtimeNanos: 999_999_999 })).toBe(-86_400_000_000_001n)
})

test('an open file is known as what was listed, and any difference shows', () => {
  const listed = statusOf(tree, Buffer.from('docs/readme.txt'))
  const fd = fs.openSync(shop.at('docs', 'readme.txt'), 'r')
  const opened = statusOfFile(fd)
  fs.closeSync(fd)
  expect(opened).toEqual(listed)
  for (const field of ['inodeHigh', 'inodeLow', 'size', 'mtime', 'mtimeNanos', 'ctime', 'ctimeNanos'] as const) {
    const other = { ...listed, [field]: listed[field] + 1 }
    expect([field, hasSameIdentity(listed, other), identityOf(listed) === identityOf(other)]).toEqual([field, false, false])
  }
  expect([hasSameIdentity(listed, opened), isSameFile(listed, { ...listed, dev: listed.dev + 1n })]).toEqual([true, false])
})

test('what has gone, or is beneath a link, is an error with its code and nothing else', () => {
  const codeOf = (path: string) => {
    try {
      return typeOf(statusOf(tree, Buffer.from(path)))
    } catch (error) {
      return (error as NodeJS.ErrnoException).code
    }
  }
  fs.symlinkSync('docs', shop.at('link'))
  const asked = ['absent', 'docs/readme.txt/x', 'link', `${'n'.repeat(300)}`, 'n'.repeat(9000)].map(codeOf)
  expect(asked).toEqual(['ENOENT', 'ENOTDIR', 'symlink', 'ENAMETOOLONG', 'ENAMETOOLONG'])
  expect(['ELOOP', 'ENOTDIR']).toContain(codeOf('link/readme.txt'))
})

test('a folder that is left and entered again is asked anew', () => {
  const path = Buffer.from('docs/readme.txt')
  const before = statusOf(tree, path)
  tree.folder(Buffer.from('special'))
  fs.renameSync(shop.at('docs'), shop.at('old'))
  fs.mkdirSync(shop.at('docs'))
  fs.writeFileSync(shop.at('docs', 'readme.txt'), 'another')
  const after = statusOf(tree, path)
  expect([isSameFile(before, after), after.size]).toEqual([false, 7])
})
