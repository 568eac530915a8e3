import { randomBytes } from 'node:crypto'
import { mkdir, open, readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import type { BackupDetail } from '../../shared/results.ts'
import { TestHoldfast } from '../harness/holdfast.ts'

/** A policy that says how its sources are cut: a file of database pages, of which some are written anew in place. */

const PAGE = 8192
const PAGES = 1000
/** Far enough apart that content-defined chunks of 64 KiB on average have one each. */
const CHANGED = [3, 120, 260, 390, 511, 640, 777, 903]

let holdfast: TestHoldfast
let file: string

beforeAll(async () => {
  holdfast = await TestHoldfast.start()
  const folder = path.join(holdfast.folder.path, 'data', 'files')
  file = path.join(folder, 'table')
  await mkdir(folder, { recursive: true })
  await writeFile(file, randomBytes(PAGES * PAGE))
  await holdfast.addAgent('db1', { sources: { files: { engine: 'files', path: folder } } })
})
afterAll(() => holdfast?.[Symbol.asyncDispose]())

const cut = (chunks?: object) =>
  holdfast.operator.ask('PUT', '/api/v1/fleet', {
    policies: { pages: { select: { sources: ['db1/files'] }, targets: ['primary'], ...(chunks && { chunks }) } },
  })

const backUp = async (type: 'full' | 'incremental') => {
  const { id, job } = await holdfast.operator.backUp('db1/files', type)
  return { id, detail: job.detail as BackupDetail }
}

async function writePagesAnew(): Promise<void> {
  const handle = await open(file, 'r+')
  for (const page of CHANGED) await handle.write(randomBytes(PAGE), 0, PAGE, page * PAGE)
  await handle.close()
}

it('pages: a backup stores the pages that were written anew and no neighbour of theirs, and restores', async () => {
  await cut({ pages: '8KiB' })
  expect((await backUp('full')).detail.chunks).toBe(PAGES)
  await writePagesAnew()
  const { id, detail } = await backUp('incremental')
  expect(detail).toMatchObject({ type: 'incremental', chunks: PAGES, chunks_skipped: PAGES - CHANGED.length })
  await holdfast.operator.restore(id, { target: 'db1/back' })
  const restored = path.join(path.dirname(path.dirname(file)), 'back', 'table')
  expect((await readFile(restored)).equals(await readFile(file))).toBe(true)
})

it('without it the engine decides: every page written anew takes its neighbours along', async () => {
  await cut()
  const full = await backUp('full')
  expect(full.detail.chunks).toBeLessThan(PAGES / 4)
  await writePagesAnew()
  const { detail } = await backUp('incremental')
  expect(detail.chunks - detail.chunks_skipped).toBeGreaterThanOrEqual(CHANGED.length)
  expect(detail.read_bytes - detail.skipped_bytes).toBeGreaterThan(CHANGED.length * PAGE * 3)
})
