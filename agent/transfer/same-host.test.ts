import { randomBytes } from 'node:crypto'
import files, { chmod, chown, mkdir, rename, rm, stat, symlink, truncate, writeFile } from 'node:fs/promises'
import { createServer as createPlainServer } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { syncBuiltinESMExports } from 'node:module'
import { type AddressInfo, createServer } from 'node:net'
import path from 'node:path'
import { expect, onTestFinished, test, vi } from 'vitest'
import { systemClock } from '../../shared/clock.ts'
import { FakeClock } from '../../shared/fake-clock.ts'
import { createLogger } from '../../shared/log.ts'
import { OBJECT_FILE_TYPE } from '../../shared/storage/local/object-file.ts'
import { OpenObject } from '../../shared/storage/local/open-object.ts'
import { newSocketName } from '../../shared/storage/local/socket-path.ts'
import { selfSigned } from '../../test/harness/certificate.ts'
import { runCommand } from '../../test/harness/commands.ts'
import { throwAwayFolder } from '../../test/harness/folders.ts'
import { waitFor } from '../../test/harness/wait.ts'
import { answering, signed } from './testing/answering.ts'
import { createTransfer, type TransferOptions } from './transfer.ts'

const log = createLogger({ level: 'silent' })
const { signal } = new AbortController()

/** The control plane's own server by HTTPS, with a reader of what lies there, and a path where its socket may be. */
async function ownServer(options: Partial<TransferOptions> = {}) {
  const folder = await throwAwayFolder()
  const certificate = await selfSigned()
  let gets = 0
  const server = createTlsServer({ key: certificate.key.reveal(), cert: certificate.cert }, (_, response) => {
    gets++
    response.end('by HTTPS')
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const localSocket = path.join(folder.path, newSocketName())
  let address = signed({
    url: `https://127.0.0.1:${(server.address() as AddressInfo).port}/a?signature=x`,
    serverCertificateSha256: certificate.sha256,
    localSocket,
  })
  const signGets = async () => [address]
  const transfer = createTransfer({ signPuts: async () => [], signGets, clock: systemClock, log, ...options })
  onTestFinished(async () => {
    await transfer.close()
    server.close()
    await folder.remove()
  })
  /** What is signed from now on names another socket. */
  const startAgain = () => {
    address = { ...address, localSocket: path.join(folder.path, newSocketName()) }
    return address.localSocket
  }
  return { transfer, folder: folder.path, localSocket, startAgain, gets: () => gets }
}

/** As a control plane that was killed leaves it: a server that ends removes its own. */
async function leftBehind(at: string): Promise<void> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen({ path: `${at}.made` }, resolve))
  await rename(`${at}.made`, at)
  await new Promise<void>((resolve) => server.close(() => resolve()))
}

const BY_SOCKET = Buffer.from('HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\nby socket')

test('on the control plane’s own host objects go by its socket, and nothing goes over the network', async () => {
  const { transfer, localSocket, gets } = await ownServer()
  const asked: string[] = []
  await answering(BY_SOCKET, asked, localSocket)
  expect(String(await transfer.get('a', null, signal))).toBe('by socket')
  expect(String(await transfer.get('b', null, signal))).toBe('by socket')
  expect(new Set(asked)).toEqual(new Set(['GET /a?signature=x HTTP/1.1']))
  expect(gets()).toBe(0)
  expect(transfer.totals.retries).toBe(0)
})

test('on another host there is no such socket: objects go over HTTPS at once, and also when one is there a moment later', async () => {
  const { transfer, localSocket, gets } = await ownServer()
  expect(String(await transfer.get('a', null, signal))).toBe('by HTTPS')
  await answering(BY_SOCKET, [], localSocket)
  expect(String(await transfer.get('a', null, signal))).toBe('by HTTPS')
  expect(gets()).toBe(2)
  expect(transfer.totals.retries).toBe(0)
})

test('a socket at which nobody answers any more is given up: objects go over HTTPS', async () => {
  const { transfer, localSocket, gets } = await ownServer()
  await leftBehind(localSocket)
  expect(String(await transfer.get('a', null, signal))).toBe('by HTTPS')
  expect(String(await transfer.get('a', null, signal))).toBe('by HTTPS')
  expect(gets()).toBe(2)
  expect(transfer.totals.retries).toBe(0)
})

test('in the middle of a job the control plane starts again: what was being read goes by its new socket', async () => {
  const { transfer, localSocket, startAgain, gets } = await ownServer()
  await answering(BY_SOCKET, [], localSocket)
  expect(String(await transfer.get('a', null, signal))).toBe('by socket')
  await rm(localSocket)
  await answering(BY_SOCKET, [], startAgain())
  expect(String(await transfer.get('a', null, signal))).toBe('by socket')
  expect(gets()).toBe(0)
  expect(transfer.totals.retries).toBe(1)
})

const ANOTHER_USER = 65534
const elsewhere = (at: string) => path.join(path.dirname(at), 'other.sock')

type Strange = [what: string, program: (at: string) => string, lay: (at: string) => Promise<void>]

const STRANGE: Strange[] = [
  ['a link to another program’s', elsewhere, (at) => symlink(elsewhere(at), at)],
  ['a file', elsewhere, (at) => writeFile(at, '')],
  ['in a folder that others may write', (at) => at, (at) => chmod(path.dirname(at), 0o770)],
]
/** Only root can make these. */
const OTHERS: Strange[] = [
  ['another user’s', (at) => at, (at) => chown(at, ANOTHER_USER, ANOTHER_USER)],
  ['in another user’s folder', (at) => at, (at) => chown(path.dirname(at), ANOTHER_USER, ANOTHER_USER)],
]

test.each([...STRANGE, ...(process.geteuid?.() === 0 ? OTHERS : [])])(
  'a socket that another user could have put there is never connected to: %s',
  async (_, program, lay) => {
    const { transfer, localSocket, gets } = await ownServer()
    const asked: string[] = []
    await answering(BY_SOCKET, asked, program(localSocket))
    await lay(localSocket)
    expect(String(await transfer.get('a', null, signal))).toBe('by HTTPS')
    expect(gets()).toBe(1)
    expect(asked).toEqual([])
    expect(transfer.totals.retries).toBe(0)
  },
)

/** The control plane's server at its socket: says where the file of an object lies, and else answers with bytes of its own. What it was asked for is listed. */
async function tellingServer(localSocket: string, told: () => Promise<string>): Promise<string[]> {
  const asked: string[] = []
  const server = createPlainServer(async (request, response) => {
    const where = request.headers.accept === OBJECT_FILE_TYPE
    asked.push(where ? 'where' : 'bytes')
    const part = request.headers.range !== undefined
    if (!where)
      return void response.writeHead(part ? 206 : 200, { 'content-length': 9, 'content-range': 'bytes 0-8/9' }).end('by socket')
    response.setHeader('content-type', OBJECT_FILE_TYPE).end(await told())
  })
  await new Promise<void>((resolve) => server.listen({ path: localSocket }, resolve))
  onTestFinished(() => void server.close())
  return asked
}

/** Of what the server answers with. */
const RANGE = { offset: 0, length: 9 }
const KEY = 'db1/tree/20260101T020000Z-2345672345/packs/1-0123456789abcdef'

/** What a server that has this file open says. */
async function saidOf(at: string): Promise<string> {
  const { dev, ino } = await stat(at, { bigint: true })
  return JSON.stringify({ path: at, device: String(dev), inode: String(ino) })
}

/** An object of 300,000 bytes that lies in a store on this host, and who is asked where. */
async function storedHere(options: Partial<TransferOptions> = {}) {
  const own = await ownServer(options)
  const at = path.join(own.folder, 'store', KEY)
  await mkdir(path.dirname(at), { recursive: true })
  const bytes = randomBytes(300_000)
  await writeFile(at, bytes)
  return { ...own, at, bytes }
}

test('an object whose file this agent may read comes from the file: its server is asked once where it lies, and for no byte', async () => {
  const { transfer, localSocket, at, bytes } = await storedHere()
  const asked = await tellingServer(localSocket, () => saidOf(at))
  const ranges = [0, 1, 250_000].map((offset) => ({ offset, length: 50_000 }))
  expect((await transfer.get(KEY, null, signal)).equals(bytes)).toBe(true)
  const got = await Promise.all(ranges.map((range) => transfer.get(KEY, range, signal)))
  expect(got.map((part, n) => part.equals(bytes.subarray(ranges[n]?.offset).subarray(0, 50_000)))).toEqual([true, true, true])
  expect(asked).toEqual(['where'])
  expect(transfer.totals).toMatchObject({ receivedBytes: 450_000, retries: 0 })
})

test('at a rate that is limited it comes in pieces, each of which waits for its turn', async () => {
  const taken: number[] = []
  const take = async (bytes: number) => void taken.push(bytes)
  const { transfer, localSocket, at, bytes } = await storedHere({ download: { bytesPerSecond: 1, take } })
  await tellingServer(localSocket, () => saidOf(at))
  expect((await transfer.get(KEY, null, signal)).equals(bytes)).toBe(true)
  expect(taken).toEqual([65_536, 65_536, 65_536, 65_536, 300_000 - 4 * 65_536])
})

test('an abort ends it with its reason, and is no reason to ask the server', async () => {
  const stop = new AbortController()
  const take = async () => stop.abort(new Error('cancelled'))
  const { transfer, localSocket, at } = await storedHere({ download: { bytesPerSecond: 1, take } })
  const asked = await tellingServer(localSocket, () => saidOf(at))
  await expect(transfer.get(KEY, null, stop.signal)).rejects.toThrow('cancelled')
  expect(asked).toEqual(['where'])
})

/** What does not settle before the test is over: opening any file, or reading from one. */
const HANGS = {
  opened: (over: Promise<never>) => vi.spyOn(files, 'open').mockReturnValue(over),
  read: (over: Promise<never>) => vi.spyOn(OpenObject.prototype, 'fill').mockReturnValue(over),
}

test.each(['opened', 'read'] as const)(
  'of a disk that does not answer for a minute the object is asked of the server: its file is being %s',
  async (what) => {
    const clock = new FakeClock()
    const { transfer, localSocket, at } = await storedHere({ clock })
    const asked = await tellingServer(localSocket, () => saidOf(at))
    const over = Promise.withResolvers<never>()
    const hanging = HANGS[what](over.promise)
    syncBuiltinESMExports()
    onTestFinished(() => {
      over.reject(new Error('the test is over'))
      hanging.mockRestore()
      syncBuiltinESMExports()
    })
    const got = transfer.get(KEY, RANGE, signal)
    await waitFor('the disk to be asked', () => hanging.mock.calls.length > 0)
    await clock.advance(60_000)
    expect(String(await got)).toBe('by socket')
    expect(asked).toEqual(['where', 'bytes'])
  },
)

type Unreadable = [what: string, told: (at: string) => Promise<string>, range?: typeof RANGE]

const other = async (at: string, changed: object) => JSON.stringify({ ...JSON.parse(await saidOf(at)), ...changed })

const UNREADABLE: Unreadable[] = [
  ['that is not there', async (at) => saidOf(at).finally(() => rm(at))],
  ['that is another one: in a container another folder lies at that path', (at) => other(at, { inode: '1' })],
  ['of another file system', (at) => other(at, { device: '1' })],
  [
    'that is a link',
    async (at) => {
      await rename(at, `${at}.moved`)
      await symlink(`${at}.moved`, at)
      return saidOf(at)
    },
  ],
  [
    'that is a folder',
    async (at) => {
      await rm(at)
      await mkdir(at)
      return saidOf(at)
    },
  ],
  [
    'that is a named pipe',
    async (at) => {
      await rm(at)
      await runCommand('mkfifo', [at])
      return saidOf(at)
    },
  ],
  ['that is shorter than the range', async (at) => truncate(at, 8).then(() => saidOf(at)), RANGE],
  ['that is longer than any object', async (at) => truncate(at, 64 * 1024 * 1024 + 1).then(() => saidOf(at))],
  ['of another name', async (at) => rename(at, `${at}x`).then(() => saidOf(`${at}x`))],
  ['by a path with more than one spelling', (at) => other(at, { path: at.replace('/store/', '/store/../store/') })],
  ['by a path that is not absolute', async (at) => other(at, { path: path.relative('', at) })],
  ['whose answer is no JSON', async () => 'here'],
]
const ONLY_ROOT: Unreadable[] = [['of another user', async (at) => chown(at, ANOTHER_USER, ANOTHER_USER).then(() => saidOf(at))]]

test.each([...UNREADABLE, ...(process.geteuid?.() === 0 ? ONLY_ROOT : [])])(
  'an object is asked of the server, which is asked no second time where it lies, for a file %s',
  async (_, told, range) => {
    const { transfer, localSocket, at } = await storedHere()
    const asked = await tellingServer(localSocket, () => told(at))
    for (const part of [range ?? null, RANGE]) expect(String(await transfer.get(KEY, part, signal))).toBe('by socket')
    expect(asked).toEqual(['where', 'bytes', 'bytes'])
    expect(transfer.totals.retries).toBe(0)
  },
)

test('an answer without an end is left at 16 KiB', async () => {
  const { transfer, localSocket } = await storedHere()
  let left = false
  let pieces = 0
  const server = createPlainServer(async (request, response) => {
    if (request.headers.accept !== OBJECT_FILE_TYPE) return void response.setHeader('content-length', 9).end('by socket')
    response.setHeader('content-type', OBJECT_FILE_TYPE).once('close', () => {
      left = true
    })
    while (!left) {
      response.write('x'.repeat(1000))
      pieces++
      await new Promise((resolve) => setImmediate(resolve))
    }
  })
  await new Promise<void>((resolve) => server.listen({ path: localSocket }, resolve))
  onTestFinished(() => void server.close())
  expect(String(await transfer.get(KEY, null, signal))).toBe('by socket')
  expect(left).toBe(true)
  // what the socket holds besides
  expect(pieces).toBeLessThan(10_000)
})

test('over HTTPS nobody is asked where a file lies', async () => {
  const { transfer, gets } = await ownServer()
  expect(String(await transfer.get(KEY, null, signal))).toBe('by HTTPS')
  expect(gets()).toBe(1)
})
