import { randomBytes } from 'node:crypto'
import { mkdir, readdir, readFile, rename, stat, symlink, truncate, utimes, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { tryCommand } from '../../../test/harness/commands.ts'
import { throwAwayFolder } from '../../../test/harness/folders.ts'
import { systemClock } from '../../clock.ts'
import { codeOf, sha256 } from '../contract.ts'
import { openStore, openTarget } from '../registry.ts'
import { type LocalTarget, openLocal } from './target.ts'

async function fresh(): Promise<{ root: string; target: LocalTarget }> {
  const folder = await throwAwayFolder()
  onTestFinished(() => folder.remove())
  const root = path.join(folder.path, 'store')
  return { root, target: await openLocal(root, { name: 'primary', clock: systemClock, create: true }) }
}

test('objects lie in the repository layout, folders 0700 and files 0600', async () => {
  const { root, target } = await fresh()
  await target.put('db1/app/20261121T020000Z-k7q2m4x9tb/packs/1-a', Buffer.from('sealed'))
  const file = path.join(root, 'db1/app/20261121T020000Z-k7q2m4x9tb/packs/1-a')
  expect((await readFile(file)).toString()).toBe('sealed')
  expect((await stat(file)).mode & 0o777).toBe(0o600)
  for (const folder of ['', 'db1', 'db1/app', 'db1/app/20261121T020000Z-k7q2m4x9tb/packs', '~sums/db1']) {
    expect((await stat(path.join(root, folder))).mode & 0o777, folder).toBe(0o700)
  }
  expect(await readdir(path.join(root, '~tmp'))).toEqual([])
})

test('a removal takes empty folders with it, and its own notes', async () => {
  const { root, target } = await fresh()
  await target.put('db1/app/one/packs/1', Buffer.from('x'))
  await target.put('db1/web/one/packs/1', Buffer.from('x'))
  await target.remove('db1/app/one/packs/1')
  expect(await readdir(path.join(root, 'db1'))).toEqual(['web'])
  expect(await readdir(path.join(root, '~sums/db1'))).toEqual(['web'])
  await target.remove('db1/web/one/packs/1')
  expect((await readdir(root)).sort()).toEqual(['~sums', '~tmp'])
})

test('links inside the store are followed by no call', async () => {
  const { root, target } = await fresh()
  const outside = path.join(path.dirname(root), 'outside')
  await mkdir(outside)
  await writeFile(path.join(outside, 'secret'), 'not an object')
  await symlink(outside, path.join(root, 'way-out'))
  await mkdir(path.join(root, 'db1'))
  await symlink(path.join(outside, 'secret'), path.join(root, 'db1/link'))
  for (const key of ['way-out/secret', 'db1/link']) {
    expect(await codeOf(target.get(key))).toBe('target_refused')
    expect(await codeOf(target.head(key))).toBe('target_refused')
    expect(await codeOf(target.put(key, Buffer.from('x')))).toBe('target_refused')
    expect(await codeOf(target.remove(key))).toBe('target_refused')
  }
  expect(await codeOf(target.put('way-out/secret', Buffer.from('x'), { overwrite: true }))).toBe('target_refused')
  // the link itself is what is replaced
  await target.put('db1/link', Buffer.from('x'), { overwrite: true })
  await target.remove('db1/link')
  expect((await readFile(path.join(outside, 'secret'))).toString()).toBe('not an object')
  expect(await readdir(outside)).toEqual(['secret'])
  const listed: string[] = []
  for await (const object of target.list('')) listed.push(object.key)
  expect(listed).toEqual([])
})

test('a named pipe in the store is refused and does not hold the call up', async () => {
  const { root, target } = await fresh()
  expect((await tryCommand('mkfifo', [path.join(root, 'pipe')])).status).toBe(0)
  expect(await codeOf(target.get('pipe'))).toBe('target_refused')
})

test('head does not read an object whose note speaks of this very file, and reads it when the note does not', async () => {
  const { root, target } = await fresh()
  const body = randomBytes(1000)
  await target.put('a', body)
  const note = path.join(root, '~sums/a')
  expect((await readFile(note, 'utf8')).split(' ')[0]).toBe(sha256(body).toString('hex'))
  const other = randomBytes(1000)
  // as a copy back from elsewhere would: same size, another time
  await writeFile(path.join(root, 'a'), other)
  await utimes(path.join(root, 'a'), 1000, 1000)
  expect((await target.head('a'))?.sha256).toEqual(sha256(other))
  for (const torn of ['', 'x', `${'0'.repeat(64)} 1000`, `${'\0'.repeat(90)}\n`]) {
    await writeFile(note, torn)
    expect((await target.head('a'))?.sha256).toEqual(sha256(other))
  }
})

test('a put of what is there already reads it, so that bytes the disk lost are object_conflict', async () => {
  const { root, target } = await fresh()
  const body = randomBytes(1000)
  await target.put('a', body)
  const file = path.join(root, 'a')
  const { atime, mtime } = await stat(file)
  const decayed = Buffer.from(body)
  decayed[500] = (decayed[500] ?? 0) ^ 1
  await writeFile(file, decayed)
  await utimes(file, atime, mtime)
  expect(await codeOf(target.put('a', body))).toBe('object_conflict')
})

test('what a put that died has left is swept after a day, and not what another is writing now', async () => {
  const { root, target } = await fresh()
  await target.put('a', Buffer.from('x'))
  await writeFile(path.join(root, '~tmp/dead'), 'half of an object')
  await utimes(path.join(root, '~tmp/dead'), 1000, 1000)
  await writeFile(path.join(root, '~tmp/alive'), 'half of an object')
  await openLocal(root, { name: 'primary', clock: systemClock, create: true })
  expect(await readdir(path.join(root, '~tmp'))).toEqual(['alive'])
})

test('a full disk is disk_full and leaves no object and no leftover', async (context) => {
  const folder = await throwAwayFolder()
  const mounted = await tryCommand('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', folder.path])
  if (mounted.status !== 0) return context.skip('mounting needs root')
  onTestFinished(async () => {
    await tryCommand('umount', [folder.path])
    await folder.remove()
  })
  const target = await openLocal(folder.path, { name: 'primary', clock: systemClock, create: true })
  expect(await codeOf(target.put('db1/a', randomBytes(2_000_000)))).toBe('disk_full')
  expect(await target.head('db1/a')).toBeNull()
  expect(await readdir(path.join(folder.path, '~tmp'))).toEqual([])
  await target.put('db1/a', randomBytes(500_000))
})

test('a store is opened only where its folder is: an unmounted disk is noticed', async () => {
  const { root } = await fresh()
  expect(await codeOf(openStore(path.join(root, 'absent')))).toBe('target_refused')
  expect((await openStore(`file://${root}`)).kind).toBe('local')
  expect(await codeOf(openStore('ftp://user:password@host/x'))).toBe('invalid_argument')
  await openStore('ftp://user:password@host/x').catch((error) => expect(String(error)).not.toContain('password'))
  expect(await codeOf(openStore('s3://bucket/a/../b'))).toBe('invalid_config')
})

test('a folder that nobody serves signs no addresses', async () => {
  const { target } = await fresh()
  expect(await codeOf(target.signGet('a'))).toBe('not_supported')
  expect(await codeOf(target.signPut('a', { size: 1, sha256: Buffer.alloc(32) }))).toBe('not_supported')
})

test('unknown settings of a target, and addresses that travel in the clear, are refused', async () => {
  const bad = [
    { kind: 'local', path: '/x', mode: 1 },
    { kind: 's3', bucket: 'acme', access_key: 'x' },
    { kind: 's3', bucket: 'acme', endpoint: 'http://minio.example.com:9000' },
    { kind: 's3', bucket: 'acme', prefix: '/a' },
    { kind: 's3', bucket: 'acme', prefix: 'a/../b' },
    { kind: 's3', bucket: 'UPPER' },
    { kind: 'ftp' },
  ]
  for (const config of bad) expect(await codeOf(openTarget(config as never)), JSON.stringify(config)).toBe('invalid_config')
})

test('an object that is open is read where one likes, whatever its name leads to by then; one cut short is damaged', async () => {
  const { root, target } = await fresh()
  const body = randomBytes(300_000)
  await target.put('db1/a', body)
  const object = await target.open('db1/a')
  try {
    await rename(path.join(root, 'db1/a'), path.join(root, 'db1/b'))
    await writeFile(path.join(root, 'db1/a'), 'another')
    expect(object.size).toBe(body.length)
    const piece = Buffer.alloc(200_000)
    await object.fill(piece, 100_000)
    expect(piece.equals(body.subarray(100_000))).toBe(true)
    await truncate(path.join(root, 'db1/b'), 250_000)
    expect(await codeOf(object.fill(piece, 100_000))).toBe('object_damaged')
    await object.fill(piece, 50_000)
  } finally {
    await object.close()
  }
  expect(await codeOf(target.open('db1/absent'))).toBe('object_missing')
  expect(await codeOf(target.open('db1'))).toBe('object_missing')
  expect(await codeOf(target.open('../a'))).toBe('invalid_name')
})
