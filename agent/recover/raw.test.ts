import { type FileHandle, mkdtemp, open, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import type { BackupSource } from '../../shared/artifacts.ts'
import { writeRaw } from './raw.ts'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'raw-'))
})
afterEach(async () => {
  vi.restoreAllMocks()
  await rm(folder, { recursive: true })
})

it('a stream is written whole, where the disk takes a part at a time', async () => {
  const handle = await open(folder, 'r')
  const handles = Object.getPrototypeOf(handle) as FileHandle
  await handle.close()
  const { write } = handles
  vi.spyOn(handles, 'write').mockImplementation(function (this: FileHandle, bytes: unknown) {
    const piece = bytes as Buffer
    return write.call(this, piece.subarray(0, piece.length >> 1) as never) as never
  })
  const pieces = [Buffer.alloc(5000, 1), Buffer.alloc(3000, 2)]
  const source = {
    fingerprint: { counts: {}, facts: {} },
    artifacts: async function* () {
      yield { kind: 'stream', name: 'dump', bytes: 8000, facts: {} }
    },
    openStream: async function* () {
      yield* pieces
    },
  } as unknown as BackupSource
  const [written] = await writeRaw(source, path.join(folder, 'out'), new AbortController().signal)
  expect(await readFile(path.join(folder, 'out', written?.file ?? ''))).toEqual(Buffer.concat(pieces))
})
