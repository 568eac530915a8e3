import { fstatSync } from 'node:fs'
import { type FileHandle, mkdtemp, open, readdir, readFile, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { createDurably, writeDurably } from './durable-file.ts'

let folder: string
/** Of each file or folder that was synced, in order: its inode, and whether the file was in its place by then. */
let synced: Array<{ inode: number; inPlace: boolean }>
const file = () => path.join(folder, 'file')

beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'durable-'))
  synced = []
  const handle = await open(folder, 'r')
  const handles = Object.getPrototypeOf(handle) as FileHandle
  await handle.close()
  const { sync } = handles
  vi.spyOn(handles, 'sync').mockImplementation(async function (this: FileHandle) {
    synced.push({ inode: fstatSync(this.fd).ino, inPlace: (await readdir(folder)).includes('file') })
    await sync.call(this)
  })
})

afterEach(async () => {
  vi.restoreAllMocks()
  await rm(folder, { recursive: true })
})

test.each([
  ['written', writeDurably],
  ['created', createDurably],
])('a file that is %s durably is synced before it is in its place, and its folder after', async (_, write) => {
  await write(file(), 'content')
  expect(synced).toEqual([
    { inode: (await stat(file())).ino, inPlace: false },
    { inode: (await stat(folder)).ino, inPlace: true },
  ])
  expect((await stat(file())).mode & 0o777).toBe(0o600)
  expect(await readdir(folder)).toEqual(['file'])
})

test('what is there already stays when it is created, and is replaced when it is written', async () => {
  expect(await createDurably(file(), 'one')).toBe(true)
  expect(await createDurably(file(), 'two')).toBe(false)
  expect(await readFile(file(), 'utf8')).toBe('one')
  await writeDurably(file(), 'three')
  expect(await readFile(file(), 'utf8')).toBe('three')
  expect(await readdir(folder)).toEqual(['file'])
})
