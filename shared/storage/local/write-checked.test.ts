import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { PassThrough, Readable } from 'node:stream'
import { expect, onTestFinished, test } from 'vitest'
import { throwAwayFolder } from '../../../test/harness/folders.ts'
import { alignedPieces, PIECE_BYTES } from '../../direct-file.ts'
import { codeOf, sha256 } from '../contract.ts'
import { writeChecked } from './write-checked.ts'

const BODY = randomBytes(5 * PIECE_BYTES + 12_345)

async function newFile(): Promise<string> {
  const folder = await throwAwayFolder()
  onTestFinished(() => folder.remove())
  return path.join(folder.path, 'object')
}

const placement = (body: Buffer, signal?: AbortSignal) => ({ size: body.length, sha256: sha256(body), overwrite: false, signal })

/** Memory of their own, as what a connection gives: a few KiB each, and one of several pieces. */
function asReceived(body: Buffer): Buffer[] {
  const lengths = [1, 16_384, 70_000, 3 * PIECE_BYTES, 4096]
  const pieces: Buffer[] = []
  for (let at = 0; at < body.length; at += pieces.at(-1)?.length ?? 0) {
    const length = Math.min(lengths[pieces.length % lengths.length] ?? 1, body.length - at)
    const piece = Buffer.allocUnsafeSlow(length)
    body.copy(piece, 0, at)
    pieces.push(piece)
  }
  return pieces
}

/** How many pieces of aligned memory can be had now. */
function alignedNow(): number {
  const taken = Array.from({ length: 20 }, () => alignedPieces.take(PIECE_BYTES))
  for (const piece of taken) alignedPieces.give(piece)
  return taken.filter((piece) => piece.buffer.byteLength > PIECE_BYTES).length
}

test('a body in pieces of any length is written as it is, and the memory of its pieces is given back', async () => {
  const file = await newFile()
  const pieces = asReceived(BODY)
  await writeChecked(file, 'key', Readable.from(pieces, { objectMode: false }), placement(BODY))
  expect((await readFile(file)).equals(BODY)).toBe(true)
  expect(pieces.map(({ length }) => length).filter((length) => length > 0)).toEqual([])
})

test('an iterable keeps what it gives', async () => {
  const file = await newFile()
  await writeChecked(file, 'key', only(BODY), placement(BODY))
  expect((await readFile(file)).equals(BODY)).toBe(true)
})

test.each([
  ['more than was said', Buffer.concat([BODY, Buffer.alloc(1)])],
  ['less than was said', BODY.subarray(0, -1)],
  ['another byte', Buffer.from(BODY).fill((BODY[3 * PIECE_BYTES] as number) ^ 1, 3 * PIECE_BYTES, 3 * PIECE_BYTES + 1)],
])('%s is refused, and the rest of the body is read, so that its sender hears of it', async (_what, sent) => {
  const before = alignedNow()
  const body = Readable.from(asReceived(sent), { objectMode: false })
  const ended = once(body, 'end')
  expect(await codeOf(writeChecked(await newFile(), 'key', body, placement(BODY)))).toBe('object_damaged')
  await ended
  expect(alignedNow()).toBe(before)
})

test('a connection that ends in the middle, and one that is given up, leave no memory in use', async () => {
  const before = alignedNow()
  const cut = new PassThrough()
  const whenCut = writeChecked(await newFile(), 'key', cut, placement(BODY))
  cut.write(Buffer.alloc(PIECE_BYTES + 1))
  cut.destroy()
  expect(await codeOf(whenCut)).toBe('target_unreachable')
  const silent = new PassThrough()
  const stop = new AbortController()
  const whenStopped = writeChecked(await newFile(), 'key', silent, placement(BODY, stop.signal))
  silent.write(Buffer.alloc(PIECE_BYTES * 2))
  stop.abort(new Error('given up'))
  await expect(whenStopped).rejects.toThrow('given up')
  expect(alignedNow()).toBe(before)
})

test('of many at a time, each good one is whole, whatever becomes of the others', async () => {
  const bodies = Array.from({ length: 18 }, () => randomBytes(3 * PIECE_BYTES + 777))
  const results = await Promise.all(
    bodies.map(async (body, n) => {
      const file = await newFile()
      const bad = n % 3 === 0
      const pieces = asReceived(bad ? body.subarray(0, -1) : body)
      const stored = writeChecked(file, 'key', Readable.from(pieces, { objectMode: false }), placement(body))
      if (bad) return (await codeOf(stored)) === 'object_damaged'
      await stored
      return (await readFile(file)).equals(body)
    }),
  )
  expect(results).toEqual(bodies.map(() => true))
})

async function* only(body: Buffer): AsyncGenerator<Buffer> {
  yield body
}
