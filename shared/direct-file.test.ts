import { randomBytes } from 'node:crypto'
import { open, readFile } from 'node:fs/promises'
import path from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { throwAwayFolder } from '../test/harness/folders.ts'
import { alignedPieces, DirectFile, PIECE_BYTES } from './direct-file.ts'

/** A new file, what is written to it by `write`, and whether that went past the page cache. */
async function written(size: number, write: (file: DirectFile) => Promise<void>): Promise<{ bytes: Buffer; direct: boolean }> {
  const folder = await throwAwayFolder()
  onTestFinished(() => folder.remove())
  const name = path.join(folder.path, 'file')
  const handle = await open(name, 'wx')
  const file = await DirectFile.over(handle, size)
  try {
    await write(file)
    return { bytes: await readFile(name), direct: file.isDirect }
  } finally {
    await file.close()
    await handle.close()
  }
}

function filled(length: number): { piece: Buffer; content: Buffer } {
  const piece = alignedPieces.take(PIECE_BYTES)
  onTestFinished(() => alignedPieces.give(piece))
  const content = randomBytes(length)
  content.copy(piece)
  return { piece: piece.subarray(0, length), content }
}

test('pieces of a whole number of blocks go past the page cache', async () => {
  const [a, b] = [filled(PIECE_BYTES), filled(8192)]
  const { bytes, direct } = await written(2 * PIECE_BYTES, async (file) => {
    await Promise.all([file.write(b.piece, PIECE_BYTES), file.write(a.piece, 0)])
  })
  expect(direct).toBe(true)
  expect(bytes.equals(Buffer.concat([a.content, b.content]))).toBe(true)
})

test('the rest of a file, and pieces that begin inside of a block, are written the usual way', async () => {
  const [a, b, c] = [filled(5000), filled(4096), filled(1)]
  const { bytes, direct } = await written(PIECE_BYTES, async (file) => {
    await file.write(a.piece, 0)
    await file.write(b.piece, 5000)
    await file.write(c.piece, 9096)
  })
  expect(direct).toBe(true)
  expect(bytes.equals(Buffer.concat([a.content, b.content, c.content]))).toBe(true)
})

test('memory that begins anywhere is written the usual way, all of it', async () => {
  const content = randomBytes(PIECE_BYTES)
  const shifted = Buffer.alloc(PIECE_BYTES + 1, content, undefined).subarray(1)
  const { bytes, direct } = await written(PIECE_BYTES, (file) => file.write(shifted, 0))
  expect(direct).toBe(false)
  expect(bytes.equals(shifted)).toBe(true)
})

test('small files are not opened a second time', async () => {
  const { bytes, direct } = await written(4096, (file) => file.write(Buffer.alloc(4096, 1), 0))
  expect(direct).toBe(false)
  expect(bytes.equals(Buffer.alloc(4096, 1))).toBe(true)
})

test('more pieces than there are aligned ones are plain memory, and do not come back as aligned', () => {
  const taken = Array.from({ length: 20 }, () => alignedPieces.take(PIECE_BYTES))
  const aligned = taken.filter((piece) => piece.buffer.byteLength > PIECE_BYTES)
  expect(aligned.length).toBeGreaterThan(0)
  expect(aligned.length).toBeLessThan(20)
  expect(new Set(aligned.map((piece) => piece.byteOffset)).size).toBe(aligned.length)
  for (const piece of taken) alignedPieces.give(piece)
  const again = Array.from({ length: 20 }, () => alignedPieces.take(PIECE_BYTES))
  expect(again.filter((piece) => piece.buffer.byteLength > PIECE_BYTES)).toHaveLength(aligned.length)
  for (const piece of again) alignedPieces.give(piece)
})
