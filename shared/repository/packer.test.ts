import { setImmediate as turn } from 'node:timers/promises'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { indexKeyOf, KIB, LIMITS, MIB, sha256 } from './format.ts'
import { PACK_TRAILER, type PackBlock, PackOpener } from './pack.ts'
import { Packer, type PackerOptions } from './packer.ts'
import type { StoredPack } from './repository.ts'
import { sumOf } from './sums.mjs'
import { seededBytes } from './testing/content.ts'

const backup = { host: 'db1', source: 'app', id: '20260101T020000Z-0123456789' }
const dataKey = seededBytes(1, 32)
const keys = { dataKey, indexKey: indexKeyOf(dataKey, backup, 2) }
/** One of them, and nothing else of any size, fits into a pack. */
const LARGE = Buffer.alloc(9 * MIB, 1)

function block(plain: Buffer, sum = sumOf(plain)): PackBlock {
  const packed = { buffer: plain, codec: 'stored', length: plain.length, sum } as const
  return { kind: 'page', packed, plainLength: Math.min(plain.length, MIB), lengths: new Uint32Array(0), names: Buffer.alloc(0) }
}
const large = block(LARGE)
const small = block(seededBytes(2, 500))
/** With one of the large ones it leaves room for nothing in a pack. */
const filling = block(LARGE.subarray(0, 7 * MIB - 400))

/** Buffers of a whole pack that were made since. */
function countWholes(): () => number {
  const made = vi.spyOn(Buffer, 'allocUnsafeSlow')
  return () => made.mock.calls.filter(([bytes]) => bytes === LIMITS.pack).length
}

afterEach(() => {
  vi.restoreAllMocks()
})

interface Put {
  readonly name: string
  /** As it was. */
  readonly bytes: Buffer
  /** That it lay in. */
  readonly memory: ArrayBufferLike
  readonly sha256: Buffer
  readonly signal: AbortSignal
  settle(error?: Error): void
}

/** A packer whose store answers when the test says so. */
function packer(more: Partial<PackerOptions> = {}) {
  const puts: Put[] = []
  const stored: StoredPack[] = []
  const stop = new AbortController()
  const made = new Packer({
    backup,
    attempt: 2,
    keys,
    objects: {
      put: (name, bytes, hash, signal) => {
        const { promise, resolve, reject } = Promise.withResolvers<void>()
        puts.push({
          name,
          bytes: Buffer.from(bytes),
          memory: bytes.buffer,
          sha256: hash,
          signal,
          settle: (error) => (error ? reject(error) : resolve()),
        })
        return promise
      },
    },
    signal: stop.signal,
    beforeFirst: async () => undefined,
    draw: () => 0,
    onStored: async (pack) => void stored.push(pack),
    ...more,
  })
  return { made, puts, stored, stop }
}

/** What only waits for promises is done after some turns of the loop. */
async function idle(): Promise<void> {
  for (let n = 0; n < 20; n++) await turn()
}

/** Fails where a wait would last for ever: here nothing waits for anything but what the test has settled. */
const soon = <T>(work: Promise<T>): Promise<T> =>
  Promise.race([
    work,
    idle().then(() => {
      throw new Error('nothing goes on any more')
    }),
  ])

describe('packs are filled and sent', () => {
  test('blocks go into the open pack while there is room, and then into the next', async () => {
    const { made, puts, stored } = packer()
    const places = []
    for (const one of [small, small, large, small, large]) places.push(await soon(made.append(one)))
    expect(places).toEqual([
      { pack: 0, block: 0 },
      { pack: 0, block: 1 },
      { pack: 0, block: 2 },
      { pack: 0, block: 3 },
      { pack: 1, block: 0 },
    ])
    const done = made.finish()
    await idle()
    expect(puts).toHaveLength(2)
    expect(made.packs).toEqual([
      { attempt: 2, stored: null },
      { attempt: 2, stored: null },
    ])
    for (const put of puts) put.settle()
    await soon(done)
    for (const [n, { name, bytes, sha256: hash }] of puts.entries()) {
      expect(hash).toEqual(sha256(bytes))
      expect(made.packs[n]).toEqual({ attempt: 2, stored: { name, size: bytes.length, sha256: hash } })
      const record = stored[n]?.chunks as Buffer
      expect(record.readUInt32LE(0)).toBe([4, 1][n])
      expect(record.subarray(4).equals(directoryOf(name, bytes))).toBe(true)
      expect(stored[n]).toMatchObject({ name, size: bytes.length, sha256: hash })
    }
  })

  test('the memory of packs that are sent is kept for the next ones, and given back at the end when told so', async () => {
    const { made, puts } = packer()
    for (const one of [large, large]) await soon(made.append(one))
    await idle()
    expect(puts).toHaveLength(1)
    puts[0]?.settle()
    await idle()
    await soon(made.append(large))
    const done = made.finish()
    await idle()
    expect(puts).toHaveLength(3)
    expect(puts[2]?.memory === puts[0]?.memory).toBe(true)
    for (const put of puts) put.settle()
    await soon(done)
    const left = () => puts.map(({ memory }) => memory.byteLength > 0)
    expect(left()).toEqual([true, true, true])
    made.release()
    expect(left()).toEqual([false, false, false])
  })

  test('nothing is sent of nothing, nor before the keys are', async () => {
    const keysAre = Promise.withResolvers<void>()
    let asked = 0
    const beforeFirst = () => {
      asked++
      return keysAre.promise
    }
    const none = packer({ beforeFirst })
    await soon(none.made.finish())
    expect([asked, none.puts.length, none.made.packs.length]).toEqual([0, 0, 0])
    const { made, puts } = packer({ beforeFirst })
    await soon(made.append(small))
    const done = made.finish()
    await idle()
    expect([asked, puts.length]).toEqual([1, 0])
    keysAre.resolve()
    await idle()
    expect(puts).toHaveLength(1)
    puts[0]?.settle()
    await soon(done)
  })

  test('of two that are on their way the memory is used again only when one has come, and never is a third one of a whole pack made', async () => {
    const { made, puts } = packer()
    const wholes = countWholes()
    for (const one of [large, large]) await soon(made.append(one))
    // what fits into a small one is put there meanwhile
    expect(await soon(made.append(small))).toEqual({ pack: 1, block: 1 })
    let placed = false
    const next = made.append(large).then((place) => {
      placed = true
      return place
    })
    await idle()
    expect(puts).toHaveLength(2)
    const hashes = () => puts.map(({ memory, bytes }) => sha256(Buffer.from(memory, 0, bytes.length)))
    const before = hashes()
    await idle()
    expect([puts.length, placed, wholes()]).toEqual([2, false, 2])
    expect(hashes()).toEqual(before)
    puts[1]?.settle()
    expect(await soon(next)).toEqual({ pack: 2, block: 0 })
    const done = made.finish()
    await idle()
    expect(puts).toHaveLength(3)
    expect(puts[2]?.memory === puts[1]?.memory).toBe(true)
    let over = false
    void done.then(() => {
      over = true
    })
    puts[0]?.settle()
    await idle()
    expect(over).toBe(false)
    puts[2]?.settle()
    await soon(done)
    expect(wholes()).toBe(2)
    expect(made.packs.every(({ stored }) => stored !== null)).toBe(true)
  })

  test('a third one is made where packs wait for one again and again, and is used from then on', async () => {
    const { made, puts } = packer()
    const wholes = countWholes()
    for (const one of [large, large]) await soon(made.append(one))
    for (let waited = 0; waited < 50; waited++) {
      const next = made.append(large)
      await idle()
      expect([puts.length, wholes()]).toEqual([waited + 2, 2])
      puts[waited]?.settle()
      await soon(next)
    }
    await soon(made.append(large))
    expect([puts.length, wholes()]).toEqual([51, 3])
    const next = made.append(large)
    await idle()
    expect(puts).toHaveLength(52)
    puts[50]?.settle()
    await soon(next)
    puts[51]?.settle()
    const done = made.finish()
    await idle()
    for (const put of puts) put.settle()
    await soon(done)
    expect([wholes(), new Set(puts.map(({ memory }) => memory)).size]).toEqual([3, 3])
  })

  test('and not where every third did not have to', async () => {
    const { made, puts } = packer()
    const wholes = countWholes()
    let sent = 0
    await soon(made.append(large))
    for (let n = 0; n < 52; n++) {
      await soon(made.append(large))
      for (const _ of ['waits', 'waits too']) {
        const next = made.append(large)
        await idle()
        puts[sent++]?.settle()
        await soon(next)
      }
      // of the next the memory is free before it begins
      puts[sent++]?.settle()
      await idle()
    }
    expect([puts.length, wholes()]).toEqual([156, 2])
  })

  test('what a small one holds is taken while two are on their way, and a small last one waits until one has come', async () => {
    const { made, puts } = packer()
    const wholes = countWholes()
    for (const one of [large, large, filling, small, small]) await soon(made.append(one))
    await idle()
    expect(puts).toHaveLength(2)
    const done = made.finish()
    await idle()
    expect([puts.length, wholes()]).toEqual([2, 2])
    puts[0]?.settle()
    await idle()
    expect(puts).toHaveLength(3)
    expect(puts[2]?.memory.byteLength).toBe(256 * KIB)
    for (const put of puts) put.settle()
    await soon(done)
    expect(puts[2]?.memory.byteLength).toBe(0)
  })

  test('the last one is rounded by chance, and no other', async () => {
    let drawn = 0
    const { made, puts } = packer({
      draw: (below) => {
        drawn++
        return below - 1
      },
    })
    await soon(made.append(large))
    await soon(made.append(large))
    expect(drawn).toBe(0)
    const done = made.finish()
    await idle()
    expect(drawn).toBe(1)
    for (const put of puts) put.settle()
    await soon(done)
    expect(puts.map(({ bytes }) => bytes.length - (puts[0]?.bytes.length ?? 0)).map(Math.sign)).toEqual([0, 1])
  })

  test('a small backup needs no memory of a whole pack', async () => {
    const { made, puts } = packer()
    await soon(made.append(small))
    const done = made.finish()
    await idle()
    expect(puts[0]?.memory.byteLength).toBe(256 * KIB)
    puts[0]?.settle()
    await soon(done)
    const other = packer()
    await soon(other.made.append(large))
    const over = other.made.finish()
    await idle()
    expect(other.puts[0]?.memory.byteLength).toBe(LIMITS.pack)
    other.puts[0]?.settle()
    await soon(over)
  })

  test('confirmed packs are reported one at a time, and count as stored only when that is done', async () => {
    const reports: Array<PromiseWithResolvers<void>> = []
    const { made, puts } = packer({
      onStored: () => {
        const report = Promise.withResolvers<void>()
        reports.push(report)
        return report.promise
      },
    })
    await soon(made.append(large))
    await soon(made.append(large))
    const done = made.finish()
    await idle()
    for (const put of puts) put.settle()
    await idle()
    expect(reports).toHaveLength(1)
    expect(made.packs.map(({ stored }) => stored)).toEqual([null, null])
    reports[0]?.resolve()
    await idle()
    expect(reports).toHaveLength(2)
    expect(made.packs.map(({ stored }) => stored !== null)).toEqual([true, false])
    reports[1]?.resolve()
    await soon(done)
  })
})

describe('a pack that fails', () => {
  test('ends the work with the first error, and is not stored', async () => {
    const { made, puts, stored } = packer()
    await soon(made.append(large))
    await soon(made.append(large))
    const done = made.finish()
    await idle()
    puts[1]?.settle(new Error('first'))
    await idle()
    puts[0]?.settle(new Error('second'))
    await expect(soon(done)).rejects.toThrow('first')
    expect(stored).toEqual([])
    expect(made.packs.map((pack) => pack.stored)).toEqual([null, null])
    await expect(soon(made.append(small))).rejects.toThrow('first')
    expect(puts).toHaveLength(2)
  })

  test('lets no other be sent after it, and who waits for its memory is told', async () => {
    const { made, puts } = packer()
    for (let n = 0; n < 2; n++) await soon(made.append(large))
    const waiting = made.append(large)
    await idle()
    expect(puts).toHaveLength(2)
    for (const put of puts) put.settle(new Error('refused'))
    await expect(soon(waiting)).rejects.toThrow('refused')
    await expect(soon(made.append(large))).rejects.toThrow('refused')
    await expect(soon(made.finish())).rejects.toThrow('refused')
    expect(puts).toHaveLength(2)
  })

  test('whose report fails fails the work too', async () => {
    const { made, puts } = packer({ onStored: () => Promise.reject(new Error('no room for the report')) })
    await soon(made.append(small))
    const done = made.finish()
    await idle()
    puts[0]?.settle()
    await expect(soon(done)).rejects.toThrow('no room for the report')
    expect(made.packs[0]?.stored).toBeNull()
  })

  test('to open as what was put into it is never sent', async () => {
    const { made, puts } = packer()
    await soon(made.append(block(seededBytes(3, 500), sumOf(Buffer.from('another')))))
    await expect(soon(made.finish())).rejects.toMatchObject({
      code: 'internal',
      message: expect.stringContaining('did not open again'),
    })
    expect(puts).toEqual([])
  })

  test('and neither is one that was filled after it', async () => {
    const { made, puts } = packer()
    await soon(made.append(block(LARGE, sumOf(Buffer.from('another')))))
    await soon(made.append(large))
    await expect(soon(made.finish())).rejects.toThrow('did not open again')
    await idle()
    expect(puts).toEqual([])
  })

  test('is waited for by who settles, without its error', async () => {
    const { made, puts } = packer()
    await soon(made.append(small))
    const done = made.finish()
    await idle()
    let settled = false
    const settling = made.settle().then(() => {
      settled = true
    })
    await idle()
    expect(settled).toBe(false)
    puts[0]?.settle(new Error('away'))
    await soon(settling)
    await expect(soon(done)).rejects.toThrow('away')
  })
})

describe('who is stopped', () => {
  test('begins no pack and finishes none', async () => {
    const { made, stop, puts } = packer()
    stop.abort(new Error('stopped'))
    await expect(soon(made.append(small))).rejects.toThrow('stopped')
    expect(made.packs).toEqual([])
    await expect(soon(made.finish())).rejects.toThrow('stopped')
    const other = packer()
    await soon(other.made.append(small))
    other.stop.abort(new Error('stopped'))
    await expect(soon(other.made.finish())).rejects.toThrow('stopped')
    expect([puts, other.puts]).toEqual([[], []])
  })

  test('waits for no memory any more', async () => {
    const { made, stop, puts } = packer()
    for (let n = 0; n < 2; n++) await soon(made.append(large))
    const waiting = made.append(large)
    await idle()
    expect(puts).toHaveLength(2)
    stop.abort(new Error('stopped'))
    // as a store does that is told
    for (const put of puts) put.settle(new Error('cut'))
    await expect(soon(waiting)).rejects.toThrow('stopped')
  })

  test('sends nothing any more, though the keys are on their way; and the store is told', async () => {
    const keysAre = Promise.withResolvers<void>()
    const { made, stop, puts } = packer({ beforeFirst: () => keysAre.promise })
    await soon(made.append(small))
    const done = made.finish()
    await idle()
    stop.abort(new Error('stopped'))
    keysAre.resolve()
    await expect(soon(done)).rejects.toThrow('stopped')
    expect(puts).toEqual([])
    const other = packer()
    await soon(other.made.append(small))
    const over = other.made.finish()
    await idle()
    expect(other.puts[0]?.signal).toBe(other.stop.signal)
    other.puts[0]?.settle()
    await soon(over)
  })
})

function directoryOf(name: string, bytes: Buffer): Buffer {
  const opener = new PackOpener({ backup, attempt: 2, object: name }, keys, bytes.subarray(-PACK_TRAILER))
  const { directoryLength, blocks } = opener.footer(bytes.subarray(-PACK_TRAILER))
  const sealed = bytes.subarray(bytes.length - PACK_TRAILER - directoryLength, bytes.length - PACK_TRAILER)
  return opener.directory(sealed, blocks, bytes.length).bytes
}
