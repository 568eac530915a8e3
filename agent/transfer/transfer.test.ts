import { randomBytes } from 'node:crypto'
import { createRequire } from 'node:module'
import { type AddressInfo, createServer } from 'node:net'
import { expect, onTestFinished, test, vi } from 'vitest'
import { systemClock } from '../../shared/clock.ts'
import { FakeClock } from '../../shared/fake-clock.ts'
import type { SignedRequest } from '../../shared/generated/holdfast/agent/v1/objects.ts'
import { createLogger } from '../../shared/log.ts'
import { newSocketName } from '../../shared/storage/local/socket-path.ts'
import { waitFor } from '../../test/harness/wait.ts'
import { requireAddress } from './address.ts'
import { failure, meaningOf } from './answers.ts'
import { Patience } from './patience.ts'
import { answering, signed } from './testing/answering.ts'
import { type Pace, Throttle, unlimited } from './throttle.ts'
import { createTransfer } from './transfer.ts'

const log = createLogger({ level: 'silent' })
const { signal } = new AbortController()

test('addresses are used only over https, or on this machine, and set no header of the connection', () => {
  expect(requireAddress(signed({}), 'GET', 'object a', 0).origin).toBe('https://store.example.com')
  expect(requireAddress(signed({ url: 'http://127.0.0.1:9000/a' }), 'GET', 'object a', 0).origin).toBe('http://127.0.0.1:9000')
  const refused: Array<Partial<SignedRequest>> = [
    { url: 'http://store.example.com/a' },
    { url: 'file:///etc/passwd' },
    { url: 'not an address' },
    { url: 'https://user@store.example.com/a' },
    { method: 'PUT' },
    { method: 'DELETE' },
    { headers: { Host: 'elsewhere.example.com' } },
    { headers: { 'Transfer-Encoding': 'chunked' } },
    { serverCertificateSha256: Buffer.alloc(31) },
    { serverCertificateSha256: Buffer.alloc(32), url: 'http://127.0.0.1:9000/a' },
    { serverCertificateSha256: Buffer.alloc(32), localSocket: '/run/docker.sock' },
    // of a store that is not the control plane's own
    { localSocket: `/run/${newSocketName()}` },
  ]
  for (const changed of refused) {
    expect(() => requireAddress(signed(changed), 'GET', 'object a', 0)).toThrow(
      expect.objectContaining({ code: 'target_refused' }),
    )
  }
})

test('an address is not begun with in its last seconds, by the monotonic clock', () => {
  expect(requireAddress(signed({ validSeconds: 900 }), 'GET', 'object a', 5_000).usableUntilMs).toBe(895_000)
  expect(requireAddress(signed({ validSeconds: 4 }), 'GET', 'object a', 0).usableUntilMs).toBe(2_000)
})

test('what a store answers, and what it means', () => {
  const rows: Array<[number, string, string]> = [
    [200, '', 'done'],
    [206, '', 'done'],
    [301, '', 'refused'],
    [307, '', 'refused'],
    [400, 'BadDigest', 'mangled'],
    [400, 'XAmzContentChecksumMismatch', 'mangled'],
    [400, 'ExpiredToken', 'new-address'],
    [400, 'RequestTimeout', 'again'],
    [400, '', 'mangled'],
    [401, '', 'new-address'],
    [403, 'AccessDenied', 'new-address'],
    [404, 'NoSuchKey', 'missing'],
    [409, 'BlobAlreadyExists', 'again'],
    [412, 'PreconditionFailed', 'taken'],
    [416, 'InvalidRange', 'short'],
    [429, '', 'again'],
    [500, 'InternalError', 'again'],
    [503, 'SlowDown', 'again'],
    [507, '', 'full'],
    [411, '', 'refused'],
  ]
  for (const [status, code, meaning] of rows) expect(meaningOf(status, code), `${status} ${code}`).toBe(meaning)
})

test('failures that may pass are tried again with growing waits until the patience is over, then thrown', async () => {
  const clock = new FakeClock()
  const patience = new Patience('object a', { clock, log, patienceMs: 60_000 })
  const waits: number[] = []
  const thrown = (async () => {
    for (;;) {
      const before = clock.monotonicMs()
      await patience.afterAnswer('again', 503, '', signal)
      waits.push(clock.monotonicMs() - before)
    }
  })().catch((error) => error)
  let over = false
  void thrown.then(() => {
    over = true
  })
  while (!over) await clock.advance(100)
  expect(await thrown).toEqual(failure('again', 'object a', 503, ''))
  expect(waits.length).toBeGreaterThan(6)
  expect(waits[0]).toBeLessThanOrEqual(200)
  expect(Math.max(...waits)).toBeLessThanOrEqual(30_100)
  expect(waits.at(-1)).toBeGreaterThan((waits[0] ?? 0) * 10)
})

test('a wait between two tries ends at once when the job is aborted', async () => {
  const clock = new FakeClock()
  const stop = new AbortController()
  const waiting = new Patience('object a', { clock, log, patienceMs: 60_000 }).afterAnswer('again', 503, '', stop.signal)
  stop.abort(new Error('cancelled'))
  await expect(waiting).rejects.toThrow('cancelled')
})

test('a rate is shared by all who take from it, after a quarter of a second that passes at once', async () => {
  const clock = new FakeClock()
  const throttle = new Throttle(1000, clock)
  const at: number[] = []
  const takers = Array.from({ length: 10 }, () => throttle.take(250, signal).then(() => at.push(clock.monotonicMs())))
  // the first passes at once: let it, before time moves
  await new Promise((resolve) => setImmediate(resolve))
  await clock.advance(10_000)
  await Promise.all(takers)
  expect(at).toEqual([0, 250, 500, 750, 1000, 1250, 1500, 1750, 2000, 2250])
})

/** Lets what may pass at this moment pass. */
const settle = () => new Promise((resolve) => setImmediate(resolve))

test('a rate that changes holds at once, for those who wait as well', async () => {
  const clock = new FakeClock()
  const throttle = new Throttle(1000, clock)
  const at: number[] = []
  const takers = Array.from({ length: 3 }, () => throttle.take(10_000, signal).then(() => at.push(clock.monotonicMs())))
  await settle()
  await clock.advance(1000)
  expect(at).toEqual([])
  // of the first 10,000 bytes 250 passed at once and 1000 in the second since
  throttle.set(100_000)
  await settle()
  await clock.advance(88)
  expect(at).toEqual([1087.5])
  throttle.set(null)
  await Promise.all(takers)
  expect(at).toEqual([1087.5, 1088, 1088])
})

test('whoever is aborted while it waits ends at once, and those behind it do not wait for its bytes', async () => {
  const clock = new FakeClock()
  const throttle = new Throttle(1000, clock)
  const stop = new AbortController()
  const first = throttle.take(1_000_000, stop.signal)
  const second = throttle.take(1_000_000, stop.signal)
  const third = throttle.take(250, signal)
  await settle()
  stop.abort(new Error('cancelled'))
  await expect(first).rejects.toThrow('cancelled')
  await expect(second).rejects.toThrow('cancelled')
  await third
  expect(clock.monotonicMs()).toBe(0)
})

test('without a rate nothing is held back', async () => {
  const clock = new FakeClock()
  await new Throttle(null, clock).take(1e12, signal)
  expect(clock.sleeping).toBe(0)
})

function reader(url: string, limits: { patienceMs?: number }, download: Pace = unlimited) {
  const transfer = createTransfer({
    signPuts: async () => [],
    signGets: async () => [signed({ url })],
    clock: systemClock,
    log,
    limits,
    download,
  })
  onTestFinished(() => transfer.close())
  return transfer
}

test('a server that sends all and closes does not disturb a reader that is held back', async () => {
  const body = randomBytes(600_000)
  const head = `HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n`
  const transfer = reader(await answering(Buffer.concat([Buffer.from(head), body])), {}, new Throttle(1_500_000, systemClock))
  expect((await transfer.get('a', null, signal)).equals(body)).toBe(true)
  expect(transfer.totals.retries).toBe(0)
})

test('an object is there only when its last piece had its turn too, though its body has ended by then', async () => {
  const asked = Promise.withResolvers<void>()
  const turn = Promise.withResolvers<void>()
  const take = async () => {
    asked.resolve()
    await turn.promise
  }
  const answer = Buffer.from('HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx')
  const transfer = reader(await answering(answer), {}, { bytesPerSecond: 1, take })
  let come = false
  const whole = transfer.get('a', null, signal).then((bytes) => {
    come = true
    return bytes
  })
  await asked.promise
  // the end of the body comes within a turn or two
  for (let turns = 0; turns < 50; turns++) await new Promise((resolve) => setImmediate(resolve))
  expect(come).toBe(false)
  turn.resolve()
  expect((await whole).toString()).toBe('x')
})

test('pieces of a body are copied, and the memory that was theirs alone is given back at once', async () => {
  const body = randomBytes(8_000_000)
  const given = vi.spyOn(ArrayBuffer.prototype, 'transfer')
  onTestFinished(() => given.mockRestore())
  const transfer = reader(
    await answering(Buffer.concat([Buffer.from(`HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n`), body])),
    {},
  )
  expect((await transfer.get('a', null, signal)).equals(body)).toBe(true)
  expect(given.mock.contexts.length).toBeGreaterThan(0)
  expect(given.mock.contexts.every((memory) => (memory as ArrayBuffer).detached)).toBe(true)
})

test('a body that is cut is asked for again, and given up with what came of it when the patience is over', async () => {
  const head = 'HTTP/1.1 200 OK\r\nContent-Length: 600000\r\nConnection: close\r\n\r\n'
  const transfer = reader(await answering(Buffer.concat([Buffer.from(head), randomBytes(300_000)])), { patienceMs: 300 })
  await expect(transfer.get('a', null, signal)).rejects.toMatchObject({ code: 'target_unreachable' })
  expect(transfer.totals.retries).toBeGreaterThan(0)
  expect(transfer.totals.receivedBytes).toBeGreaterThanOrEqual(600_000)
})

test.each([null, 100_000])('an abort in the middle of a body ends it at once with its reason, at a rate of %s', async (rate) => {
  const part = Buffer.concat([Buffer.from('HTTP/1.1 200 OK\r\nContent-Length: 600000\r\n\r\n'), randomBytes(300_000)])
  const server = createServer((socket) => {
    socket.on('error', () => undefined)
    socket.once('data', () => socket.write(part))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => new Promise<void>((resolve) => server.close(() => resolve())))
  const transfer = reader(`http://127.0.0.1:${(server.address() as AddressInfo).port}/a`, {}, new Throttle(rate, systemClock))
  const stop = new AbortController()
  const getting = transfer.get('a', null, stop.signal)
  getting.catch(() => undefined)
  await waitFor('a piece of the body', () => transfer.totals.receivedBytes > 0)
  stop.abort(new Error('cancelled'))
  await expect(getting).rejects.toThrow('cancelled')
})

test('a get that waits for a connection ends at once when it is aborted, and is never asked for', async () => {
  const answer = Buffer.from('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab')
  const asked: Array<{ head: string; answer: () => void }> = []
  const server = createServer((socket) => {
    socket.on('error', () => undefined)
    socket.on('data', (head) => void asked.push({ head: head.toString(), answer: () => socket.write(answer) }))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => void server.close())
  const transfer = reader(`http://127.0.0.1:${(server.address() as AddressInfo).port}/a`, {})
  const gets = Array.from({ length: 16 }, () => transfer.get('a', null, signal))
  await waitFor('every connection to be taken', () => asked.length === 16)
  const stop = new AbortController()
  const waiting = transfer.get('a', { offset: 0, length: 1 }, stop.signal)
  // its address comes at once: by then it stands in the queue
  await settle()
  stop.abort(new Error('cancelled'))
  await expect(waiting).rejects.toThrow('cancelled')
  for (const one of asked) one.answer()
  expect((await Promise.all(gets)).map(String)).toEqual(Array(16).fill('ab'))
  // whoever comes next finds nobody before it
  const next = transfer.get('a', null, signal)
  await waitFor('the next request', () => asked.length > 16)
  asked[16]?.answer()
  expect((await next).toString()).toBe('ab')
  expect(asked.length).toBe(17)
  expect(asked.filter(({ head }) => /^range:/im.test(head))).toEqual([])
})

test('an answer without a length, or with one that no object has, is refused and not read', async () => {
  for (const head of ['Transfer-Encoding: chunked', `Content-Length: ${65 * 1024 * 1024}`]) {
    const transfer = reader(await answering(Buffer.from(`HTTP/1.1 200 OK\r\n${head}\r\n\r\n1\r\nx\r\n`)), { patienceMs: 300 })
    await expect(transfer.get('a', null, signal)).rejects.toMatchObject({ code: 'target_refused' })
  }
})

test('a problem is read to 16 KiB for its code, and a message holds nothing else of it', async () => {
  const problem = `<Error><Code>NoSuchKey</Code><SignatureProvided>abc</SignatureProvided>${'x'.repeat(200_000)}</Error>`
  const head = `HTTP/1.1 404 Not Found\r\nContent-Length: ${problem.length}\r\n\r\n`
  const transfer = reader(await answering(Buffer.from(head + problem)), { patienceMs: 300 })
  const error = await transfer.get('host/a', null, signal).catch((thrown) => thrown)
  expect(error).toMatchObject({ code: 'object_missing', message: 'object host/a (404, NoSuchKey): it is not there' })
})

test('what answers with something else than HTTP is target_unreachable, with the reason', async () => {
  const transfer = reader(await answering(Buffer.from('SSH-2.0-OpenSSH_9.2\r\n')), { patienceMs: 300 })
  await expect(transfer.get('a', null, signal)).rejects.toMatchObject({ code: 'target_unreachable' })
})

test('an address is asked for as it was signed, path and query', async () => {
  const asked: string[] = []
  const url = await answering(Buffer.from('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab'), asked)
  expect(await reader(`${url}%2Fb/c?sig=%2B%3D&x`, {}).get('a', null, signal)).toEqual(Buffer.from('ab'))
  expect(asked).toEqual(['GET /a%2Fb/c?sig=%2B%3D&x HTTP/1.1'])
})

test('of undici no more is loaded than a transfer needs: its main module is 4 MB in each job', () => {
  const loaded = Object.keys(createRequire(import.meta.url).cache)
  expect(loaded.some((file) => file.endsWith('/undici/lib/dispatcher/agent.js'))).toBe(true)
  expect(loaded.filter((file) => file.endsWith('/undici/index.js'))).toEqual([])
})
