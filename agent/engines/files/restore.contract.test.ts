import { createHash } from 'node:crypto'
import * as fs from 'node:fs'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { BackupSource, TreeEntry } from '../../../shared/artifacts.ts'
import { runCommand, tryCommand } from '../../../test/harness/commands.ts'
import { type MemoryBackup, memorySource } from '../testing/memory.ts'
import { failureOf, restorePlan, withRun } from '../testing/plans.ts'
import { filesEngine } from './files.ts'
import { isRoot } from './odd-tree.fixture.ts'
import { codes, Workshop } from './tree.fixture.ts'

let shop: Workshop
beforeEach(async () => {
  shop = await Workshop.open()
  fs.mkdirSync(shop.root)
})
afterEach(() => shop.dispose())

type Part = Partial<Omit<TreeEntry, 'path' | 'linkTarget' | 'hardLinkTo'>> & {
  linkTarget?: string
  hardLinkTo?: string
  content?: string
}

/** A backup as nobody but an attacker would write it. */
function forged(...parts: Array<[path: string, part: Part]>): BackupSource {
  const entries = [['', { type: 'directory' }] as [string, Part], ...parts].map(
    ([path, { content, linkTarget, hardLinkTo, ...rest }]) => ({
      entry: {
        path: Buffer.from(path, 'latin1'),
        type: 'file' as const,
        mode: 0o644,
        uid: process.getuid?.() ?? 0,
        gid: process.getgid?.() ?? 0,
        mtimeNs: 0n,
        size: content?.length ?? 0,
        ...(linkTarget === undefined ? {} : { linkTarget: Buffer.from(linkTarget) }),
        ...(hardLinkTo === undefined ? {} : { hardLinkTo: Buffer.from(hardLinkTo) }),
        ...rest,
      },
      identity: null,
      extents: content ? [{ offset: 0, bytes: Buffer.from(content) }] : [],
    }),
  )
  const backup: MemoryBackup = {
    streams: new Map(),
    trees: new Map([['tree', { meta: { name: 'tree', chunking: { kind: 'fixed', bytes: 8192 } }, entries }]]),
  }
  return memorySource(backup, { counts: {}, facts: {} })
}

describe('a hostile backup', () => {
  const folder: Part = { type: 'directory', mode: 0o755 }
  test.each<[string, BackupSource]>([
    ['climbs', forged(['../escaped', { content: 'x' }])],
    ['climbs further down', forged(['a', folder], ['a/../../escaped', { content: 'x' }])],
    ['is absolute', forged(['/tmp/escaped', { content: 'x' }])],
    ['holds a NUL', forged(['a\0b', { content: 'x' }])],
    ['has an empty name', forged(['a', folder], ['a//b', { content: 'x' }])],
    [
      'writes through a link of its own',
      forged(['a', { type: 'symlink', linkTarget: '../victim' }], ['a/escaped', { content: 'x' }]),
    ],
    [
      'writes through a link to the root',
      forged(['a', { type: 'symlink', linkTarget: '/' }], ['a/tmp/escaped', { content: 'x' }]),
    ],
    [
      'replaces a link by a folder',
      forged(['a', { type: 'symlink', linkTarget: '../victim' }], ['a', folder], ['a/escaped', { content: 'x' }]),
    ],
    ['writes a file over a link', forged(['a', { type: 'symlink', linkTarget: '../victim/file' }], ['a', { content: 'x' }])],
    ['has a name twice', forged(['a', { content: 'x' }], ['a', { content: 'y' }])],
    ['has no folder for an entry', forged(['a/b', { content: 'x' }])],
    ['links out by a link', forged(['a', { type: 'symlink', linkTarget: '../victim' }], ['b', { hardLinkTo: 'a/file' }])],
    ['links out by climbing', forged(['b', { hardLinkTo: '../victim/file' }])],
    ['has a name that is too long', forged(['n'.repeat(300), { content: 'x' }])],
    ['contradicts its size', forged(['a', { content: 'xxxx', size: 2 }])],
    ['has a root that is no folder', forged(['', { type: 'symlink', linkTarget: '../victim' }])],
  ])('that %s is refused, and nothing is left of it', async (_, source) => {
    fs.mkdirSync(shop.beside('victim'))
    fs.writeFileSync(shop.beside('victim', 'file'), 'untouched')
    expect(await failureOf(shop.restore(source, 'copy'))).toMatchObject({ code: 'backup_invalid' })
    expect(fs.readdirSync(shop.folder).sort()).toEqual(['tree', 'victim'])
    expect(fs.readdirSync(shop.beside('victim'))).toEqual(['file'])
    expect(fs.readFileSync(shop.beside('victim', 'file'), 'utf8')).toBe('untouched')
    expect(fs.existsSync('/tmp/escaped')).toBe(false)
  })

  test('links that lead anywhere are restored as links, and their targets keep mode, owner and time', async () => {
    fs.mkdirSync(shop.beside('victim'), 0o700)
    const before = fs.statSync(shop.beside('victim'))
    const link: Part = { type: 'symlink', linkTarget: '../victim', mode: 0o777, mtimeNs: 5n, xattrs: [] }
    await shop.restore(forged(['a', link]), 'copy')
    expect(fs.readlinkSync(shop.beside('copy', 'a'))).toBe('../victim')
    expect(fs.statSync(shop.beside('victim'))).toEqual(before)
  })

  test('a name of a file that is not in the backup is a finding, and the rest is restored', async () => {
    const findings = await shop.restore(forged(['a', { hardLinkTo: 'absent' }], ['b', { content: 'x' }]), 'copy')
    expect(findings).toMatchObject([{ code: 'entry_not_restored', severity: 'error' }])
    expect(fs.readdirSync(shop.beside('copy'))).toEqual(['b'])
  })

  test('what is there is not replaced by less than the backup holds', async () => {
    fs.writeFileSync(shop.at('old'), 'old')
    const less = forged(['a', { hardLinkTo: 'absent' }], ['b', { content: 'x' }])
    for (const parts of [[], ['a', 'b']]) {
      const failure = await failureOf(shop.restore(less, null, { overwrite: true, parts }))
      expect(failure).toMatchObject({ message: expect.stringContaining('was not replaced') })
      expect(fs.readdirSync(shop.root)).toEqual(['old'])
      expect(fs.readdirSync(shop.folder)).toEqual(['tree'])
    }
  })
})

test('a sparse file comes back with its holes', async () => {
  const fd = fs.openSync(shop.at('sparse'), 'w')
  fs.writeSync(fd, 'middle', 500_000_000)
  fs.ftruncateSync(fd, 1_000_000_000)
  fs.closeSync(fd)
  await shop.restore((await shop.take()).source, 'copy')
  const { size, blocks } = fs.statSync(shop.beside('copy', 'sparse'))
  expect(size).toBe(1_000_000_000)
  expect(blocks * 512).toBeLessThan(1_000_000)
})

describe('chosen parts', () => {
  beforeEach(() => {
    fs.mkdirSync(shop.at('one'))
    fs.mkdirSync(shop.at('two'))
    fs.writeFileSync(shop.at('one', 'file'), 'content')
    fs.linkSync(shop.at('one', 'file'), shop.at('two', 'second'))
    fs.linkSync(shop.at('one', 'file'), shop.at('two', 'third'))
    fs.writeFileSync(shop.at('two', 'other'), 'other')
  })

  test('further names of a file whose first name was not chosen have its content, and are one file', async () => {
    await shop.restore((await shop.take()).source, 'copy', { parts: ['two'] })
    expect(fs.readdirSync(shop.beside('copy'))).toEqual(['two'])
    expect(fs.readFileSync(shop.beside('copy', 'two', 'second'), 'utf8')).toBe('content')
    const [second, third] = [fs.statSync(shop.beside('copy', 'two', 'second')), fs.statSync(shop.beside('copy', 'two', 'third'))]
    expect([second.ino, second.nlink]).toEqual([third.ino, 2])
    expect(fs.statSync(shop.beside('copy')).mtimeMs).toBe(fs.statSync(shop.root).mtimeMs)
  })

  test('over what exists: each takes its place, what else is there stays', async () => {
    const { source } = await shop.take()
    fs.writeFileSync(shop.at('two', 'other'), 'changed')
    fs.writeFileSync(shop.at('two', 'added'), 'added')
    fs.rmSync(shop.at('two', 'third'))
    fs.writeFileSync(shop.at('one', 'file'), 'changed')
    await shop.restore(source, null, { parts: ['two'], overwrite: true })
    const read = (...names: string[]) => fs.readFileSync(shop.at(...names), 'utf8')
    expect([read('two', 'other'), read('two', 'added'), read('two', 'third')]).toEqual(['other', 'added', 'content'])
    expect(read('one', 'file')).toBe('changed')
    expect(fs.readdirSync(shop.folder)).toEqual(['tree'])
  })

  test('when one cannot take its place, those before it are undone', async () => {
    const { source } = await shop.take()
    fs.writeFileSync(shop.at('two', 'other'), 'changed')
    fs.rmSync(shop.at('two', 'second'))
    fs.rmSync(shop.at('two', 'third'))
    fs.mkdirSync(shop.at('two', 'third'))
    expect(await failureOf(shop.restore(source, null, { parts: ['two'], overwrite: true }))).toMatchObject({ code: 'conflict' })
    expect(fs.readFileSync(shop.at('two', 'other'), 'utf8')).toBe('changed')
    expect(fs.readdirSync(shop.at('two')).sort()).toEqual(['other', 'third'])
    expect(fs.readdirSync(shop.folder)).toEqual(['tree'])
  })

  test('preview names what each replaces', async () => {
    const { source } = await shop.take()
    const plan = {
      action: 'restore',
      config: shop.config(),
      targetName: null,
      parts: ['two'],
      mapping: {},
      overwrite: true,
    } as const
    const { replaces, creates } = await withRun((run) => filesEngine.preview(plan, source, run))
    expect(replaces.map(({ what }) => what)).toEqual(['"two/other"', '"two/second"', '"two/third"'])
    expect(creates).toEqual([])
  })

  test('preview leaves out nothing that it could not look at', async () => {
    const long = 'x'.repeat(300)
    const plan = {
      action: 'restore',
      config: shop.config(),
      targetName: null,
      parts: [long],
      mapping: {},
      overwrite: true,
    } as const
    const looking = withRun((run) => filesEngine.preview(plan, forged([long, { content: 'x' }]), run))
    expect(await failureOf(looking)).toMatchObject({ code: 'invalid_name', message: expect.stringContaining('too long') })
  })
})

describe('what a killed restore left', () => {
  /** Its staging folder's name, as a restore into `copy` gives it. */
  async function stagingName(): Promise<string> {
    let name = ''
    const { source } = await shop.take()
    const spying: BackupSource = {
      ...source,
      async *openTree(...args) {
        name = fs.readdirSync(shop.folder).find((one) => one.startsWith('.holdfast-new-')) ?? ''
        yield* source.openTree(...args)
      },
    }
    await shop.restore(spying, 'copy')
    return name
  }

  test('unfinished: the next restore into the same place removes it', async () => {
    const name = await stagingName()
    fs.rmSync(shop.beside('copy'), { recursive: true })
    fs.mkdirSync(shop.beside(name, 'half'), { recursive: true })
    await shop.restore((await shop.take()).source, 'copy')
    expect(fs.readdirSync(shop.folder).sort()).toEqual(['copy', 'tree'])
  })

  test('cut off between two renames: the next restore puts back what was there, and says so', async () => {
    const old = (await stagingName()).replace('.holdfast-new-', '.holdfast-old-')
    fs.renameSync(shop.beside('copy'), shop.beside(old))
    fs.writeFileSync(shop.beside(old, 'precious'), 'x')
    const { source } = await shop.take()
    expect(await failureOf(shop.restore(source, 'copy', { overwrite: true }))).toMatchObject({
      code: 'source_exists',
      retry: true,
    })
    expect(fs.readdirSync(shop.beside('copy'))).toEqual(['precious'])
    await shop.restore(source, 'copy', { overwrite: true })
    expect(fs.readdirSync(shop.folder).sort()).toEqual(['copy', 'tree'])
  })
})

test('what a killed test restore left is removed by the next one; what a living one looks at is not', async () => {
  const { source } = await shop.take()
  await withRun(async (run) => {
    const living = await filesEngine.sandbox(shop.config(), run)
    await filesEngine.restore(restorePlan(shop.config(), living.place.targetName), source, run)
    // as one that was killed before, and one that was killed after its tree got its name
    const staged = `.holdfast-new-${createHash('sha256').update(shop.beside('.holdfast-test-0000000001')).digest('hex').slice(0, 12)}-0000000009`
    for (const name of ['.holdfast-test-0000000001.lock', '.holdfast-test-0000000002.lock', '.holdfast-test-mine'])
      fs.writeFileSync(shop.beside(name), '')
    fs.mkdirSync(shop.beside(staged, 'half'), { recursive: true })
    fs.mkdirSync(shop.beside('.holdfast-test-0000000002', 'whole'), { recursive: true })
    const next = await filesEngine.sandbox(shop.config(), run)
    const here = [living, next].map(({ place }) => place.targetName ?? '')
    const kept = [...here.map((name) => `${name}.lock`), here[0], '.holdfast-test-mine', 'tree'].sort()
    expect(fs.readdirSync(shop.folder).sort()).toEqual(kept)
    for (const sandbox of [living, next]) await sandbox.dispose()
    expect(fs.readdirSync(shop.folder).sort()).toEqual(['.holdfast-test-mine', 'tree'])
  })
})

test('what was restored is counted as a whole, whatever the source by way of which it was restored leaves out', async () => {
  fs.writeFileSync(shop.at('kept'), 'x')
  fs.writeFileSync(shop.at('a.log'), 'y')
  const { source, fingerprint } = await shop.take()
  await shop.restore(source, 'copy')
  const config = shop.config({ exclude: ['*.log'] })
  const place = { config, targetName: 'copy' }
  await withRun(async (run) => {
    expect(await filesEngine.check({ ...place, restored: true }, fingerprint, run)).toEqual([])
    expect((await filesEngine.check(place, fingerprint, run)).map(({ code }) => code)).toContain('count_mismatch')
  })
})

test('restore_roots allow absolute targets within them, links counted, and nothing else', async () => {
  const roots = shop.beside('roots')
  fs.mkdirSync(roots)
  fs.symlinkSync('/tmp', shop.beside('roots', 'out'))
  const config = shop.config({ restore_roots: [roots] })
  const { source } = await shop.take()
  const restore = (targetName: string) =>
    withRun((run) =>
      filesEngine.restore({ action: 'restore', config, targetName, parts: [], mapping: {}, overwrite: false }, source, run),
    )
  await restore(`${roots}/copy`)
  expect(fs.existsSync(`${roots}/copy`)).toBe(true)
  for (const target of [`${roots}/out/x`, `${roots}/../x`, `${roots}//x`, '/tmp/x', roots, `${roots}/a/../b`]) {
    expect(await failureOf(restore(target)), target).toMatchObject({ code: 'invalid_name' })
  }
})

test('patterns: a name matches at any depth, a path from the folder on, exclude wins, folders come only with what they hold', async () => {
  for (const folder of ['src', 'src/cache', 'docs', 'docs/deep', 'empty']) fs.mkdirSync(shop.at(folder))
  for (const file of ['src/a.ts', 'src/a.log', 'src/cache/b.ts', 'docs/c.md', 'docs/deep/d.md', '.hidden.md']) {
    fs.writeFileSync(shop.at(file), 'x')
  }
  const paths = async (more: object) => (await shop.take({}, more)).paths.slice(1)
  expect(await paths({ exclude: ['*.log', 'cache', '/docs/deep'] })).toEqual([
    '.hidden.md',
    'docs',
    'docs/c.md',
    'empty',
    'src',
    'src/a.ts',
  ])
  expect(await paths({ include: ['*.md'] })).toEqual(['.hidden.md', 'docs', 'docs/c.md', 'docs/deep', 'docs/deep/d.md'])
  expect(await paths({ include: ['src/**'], exclude: ['*.log'] })).toEqual(['src', 'src/a.ts', 'src/cache', 'src/cache/b.ts'])
})

/** Root in a container may mount nothing. */
const canMount = isRoot && (await tryCommand('unshare', ['--mount', 'mount', '-t', 'tmpfs', 'tmpfs', '/mnt'])).status === 0

test.runIf(canMount)('mounts: pseudo file systems are left out, and a target that holds a mount is not swapped', async () => {
  fs.mkdirSync(shop.at('proc'))
  fs.mkdirSync(shop.at('data'))
  const { source } = await shop.take()
  await runCommand('mount', ['-t', 'proc', 'proc', shop.at('proc')])
  await runCommand('mount', ['-t', 'tmpfs', 'tmpfs', shop.at('data')])
  try {
    fs.writeFileSync(shop.at('data', 'file'), 'x')
    const taken = await shop.take()
    expect(taken.paths).toEqual(['', 'data', 'data/file', 'proc'])
    expect(codes(taken.findings)).toEqual(['file_system_left_out'])
    expect((await shop.take({}, { one_file_system: true })).paths).toEqual(['', 'data', 'proc'])
    expect(await failureOf(shop.restore(source, null, { overwrite: true }))).toMatchObject({ code: 'conflict' })
  } finally {
    await runCommand('umount', [shop.at('proc')])
    await runCommand('umount', [shop.at('data')])
  }
})
