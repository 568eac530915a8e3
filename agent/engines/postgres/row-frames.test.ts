import fc from 'fast-check'
import { expect, test } from 'vitest'
import { RowFrames } from './row-frames.ts'

function message(type: string, content: Uint8Array): Buffer {
  const head = Buffer.alloc(5, type, 'latin1')
  head.writeUInt32BE(content.length + 4, 1)
  return Buffer.concat([head, content])
}

/** Each piece in memory of its own that is overwritten afterwards, as a connection's is. */
function* pieces(bytes: Buffer, sizes: readonly number[]): Generator<Buffer> {
  for (let at = 0, n = 0; at < bytes.length; n++) {
    const piece = Buffer.from(bytes.subarray(at, at + (sizes[n % sizes.length] ?? 1)))
    at += piece.length
    yield piece
    piece.fill(0xee)
  }
}

/** Rows and the client's bytes, with memory of so many bytes for rows. */
function taken(frames: RowFrames, bytes: Buffer, sizes: readonly number[], memoryBytes: number) {
  const rows: Buffer[] = []
  const others: Buffer[] = []
  for (const piece of pieces(bytes, sizes)) {
    for (let at = 0; at < piece.length; ) {
      at = frames.take(piece, at)
      const other = frames.others()
      if (other) others.push(other)
      if (!frames.isFull) continue
      expect(frames.filled.length).toBe(memoryBytes)
      rows.push(Buffer.from(frames.filled))
      frames.fillInto(Buffer.allocUnsafe(memoryBytes))
    }
  }
  rows.push(Buffer.from(frames.filled))
  return { rows: Buffer.concat(rows), others: Buffer.concat(others) }
}

const content = (max: number) => fc.uint8Array({ maxLength: max })
const row = fc.oneof({ weight: 8, arbitrary: content(40) }, { weight: 2, arbitrary: content(700) })
/** What a server may say between rows: a notice, a setting that changed. */
const aside = fc.record({ type: fc.constantFrom('N', 'S'), content: content(30), after: fc.nat(50) })
const sizes = fc.array(fc.oneof(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1, max: 3000 })), {
  minLength: 1,
  maxLength: 20,
})

test('rows come out whole and in order, all else goes to the client byte by byte, however the bytes come and however little room there is', () => {
  fc.assert(
    fc.property(
      fc.array(row, { maxLength: 50 }),
      fc.array(aside, { maxLength: 4 }),
      sizes,
      fc.integer({ min: 1, max: 900 }),
      (given, asides, cut, room) => {
        const said = [message('H', Buffer.alloc(3)), ...given.map((one) => message('d', one)), message('c', Buffer.alloc(0))]
        const end = [message('C', Buffer.from(`COPY ${given.length}\0`)), message('Z', Buffer.from('T'))]
        for (const { type, content: text, after } of asides) said.splice(Math.min(after, said.length), 0, message(type, text))
        const kept = said.filter((one) => one[0] === 0x4e || one[0] === 0x53)
        const frames = new RowFrames()
        frames.begin(Buffer.allocUnsafe(room))
        const { rows, others } = taken(frames, Buffer.concat([...said, ...end]), cut, room)
        expect(rows.equals(Buffer.concat(given))).toBe(true)
        expect(frames.count).toBe(given.length)
        expect(others.equals(Buffer.concat([...kept, ...end]))).toBe(true)
      },
    ),
  )
})

test('what is not asked for as rows is the client’s, rows too', () => {
  fc.assert(
    fc.property(
      fc.array(fc.record({ type: fc.constantFrom('d', 'H', 'c', 'D', 'Z'), content: content(300) })),
      sizes,
      (said, cut) => {
        const bytes = Buffer.concat(said.map((one) => message(one.type, one.content)))
        const frames = new RowFrames()
        const { rows, others } = taken(frames, bytes, cut, 1)
        expect(rows.length).toBe(0)
        expect(others.equals(bytes)).toBe(true)
      },
    ),
  )
})

test('one COPY after the other: what lies between them is the client’s, and each has a count of its own', () => {
  const frames = new RowFrames()
  for (const number of [3, 0, 5]) {
    const rows = Array.from({ length: number }, (_, n) => Buffer.from(`row ${n}\n`))
    frames.begin(Buffer.alloc(100))
    const bytes = Buffer.concat([...rows.map((one) => message('d', one)), message('C', Buffer.from(`COPY ${number}\0`))])
    expect(taken(frames, bytes, [7], 100)).toEqual({
      rows: Buffer.concat(rows),
      others: message('C', Buffer.from(`COPY ${number}\0`)),
    })
    expect(frames.count).toBe(number)
    frames.end()
    expect(taken(frames, message('Z', Buffer.from('T')), [2], 100).others).toEqual(message('Z', Buffer.from('T')))
  }
})

test.each([0, 3, 0x80000004])('a message that says a length of %s is none, and ends it', (said) => {
  const head = Buffer.from('d....')
  head.writeUInt32BE(said, 1)
  for (const size of [1, 5]) {
    const frames = new RowFrames()
    frames.begin(Buffer.alloc(100))
    expect(() => taken(frames, head, [size], 100)).toThrow('no message of its protocol')
  }
})

test('a row that says that it is a gigabyte takes no more memory than there was', () => {
  const frames = new RowFrames()
  frames.begin(Buffer.alloc(10))
  const head = Buffer.from('d....')
  head.writeUInt32BE(1024 ** 3, 1)
  const piece = Buffer.concat([head, Buffer.from('0123456789abcdef')])
  expect(frames.take(piece, 0)).toBe(15)
  expect([frames.isFull, String(frames.filled)]).toEqual([true, '0123456789'])
  frames.fillInto(Buffer.alloc(10))
  expect(frames.take(piece, 15)).toBe(piece.length)
  expect(String(frames.filled)).toBe('abcdef')
})
