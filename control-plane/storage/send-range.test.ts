import { expect, test } from 'vitest'
import { seededBytes } from '../../shared/repository/testing/content.ts'
import { waitFor } from '../../test/harness/wait.ts'
import { sendRange } from './send-range.ts'

const KIB = 1024
const CONTENT = seededBytes(1, 1024 * KIB)

interface Written {
  readonly piece: Buffer
  readonly sent: (error?: Error) => void
}

/** An answer whose connection takes a piece when the test says so. */
function answering(range: { offset: number; length: number }, signal = new AbortController().signal) {
  const written: Written[] = []
  const filled: Buffer[] = []
  const answer = { ended: false }
  const object = {
    fill: async (piece: Buffer, offset: number) => {
      filled.push(piece)
      CONTENT.copy(piece, 0, offset, offset + piece.length)
    },
  }
  const response = {
    write: (piece: Buffer, sent: Written['sent']) => written.push({ piece, sent }) > 0,
    end: () => {
      answer.ended = true
    },
  }
  const sending = sendRange(object, range, response, signal)
  sending.catch(() => undefined)
  return { sending, written, filled, answer }
}

test('a range goes out whole and in its order, from two pieces of memory, each filled again only once it was sent', async () => {
  const range = { offset: 1000, length: 300 * KIB + 7 }
  const { sending, written, filled, answer } = answering(range)
  const received: Buffer[] = []
  for (let n = 0; n < 5; n++) {
    await waitFor('the next piece', () => written.length > n)
    // and the one after it, where there is one, but no third
    await waitFor('the piece after it', () => written.length === Math.min(n + 2, 5))
    expect(filled.length).toBe(Math.min(n + 2, 5))
    expect(answer.ended).toBe(false)
    received.push(Buffer.from((written[n] as Written).piece))
    written[n]?.sent()
  }
  await sending
  expect(answer.ended).toBe(true)
  expect(Buffer.concat(received).equals(CONTENT.subarray(1000, 1000 + range.length))).toBe(true)
  expect(new Set(filled.map(({ buffer }) => buffer)).size).toBe(2)
})

test('nothing is sent of an empty object but the end', async () => {
  const { sending, written, answer } = answering({ offset: 0, length: 0 })
  await sending
  expect({ written, ended: answer.ended }).toEqual({ written: [], ended: true })
})

test('a connection that has gone ends it with the reason, before it begins, in the middle, or while the last piece is on its way', async () => {
  for (const pieces of [0, 2, 3]) {
    const gone = new AbortController()
    if (pieces === 0) gone.abort(new Error('gone'))
    const { sending, written, answer } = answering({ offset: 0, length: 192 * KIB }, gone.signal)
    if (pieces === 3) {
      await waitFor('the first piece', () => written.length > 0)
      written[0]?.sent()
    }
    if (pieces > 0) await waitFor('the pieces that may be under way', () => written.length === pieces)
    gone.abort(new Error('gone'))
    await expect(sending).rejects.toThrow('gone')
    expect({ pieces: written.length, ended: answer.ended }).toEqual({ pieces, ended: false })
  }
})

test('a piece that cannot be sent ends it with the error', async () => {
  const { sending, written } = answering({ offset: 0, length: 192 * KIB })
  await waitFor('two pieces', () => written.length === 2)
  written[0]?.sent(new Error('EPIPE'))
  await expect(sending).rejects.toThrow('EPIPE')
  expect(written.length).toBe(2)
})
