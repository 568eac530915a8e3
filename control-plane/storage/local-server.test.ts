import { randomBytes } from 'node:crypto'
import { mkdirSync } from 'node:fs'
import { mkdir, readdir, stat, symlink, writeFile } from 'node:fs/promises'
import { request } from 'node:http'
import { connect as connectPlain, type Socket } from 'node:net'
import path from 'node:path'
import { buffer } from 'node:stream/consumers'
import { connect } from 'node:tls'
import { expect, onTestFinished, test } from 'vitest'
import { FakeClock } from '../../shared/fake-clock.ts'
import { createLogger } from '../../shared/log.ts'
import { Secret } from '../../shared/secret.ts'
import { sha256 } from '../../shared/storage/contract.ts'
import { sendRaw } from '../../shared/storage/contract-addresses.ts'
import { OBJECT_FILE_TYPE } from '../../shared/storage/local/object-file.ts'
import { isSocketPath, newSocketName } from '../../shared/storage/local/socket-path.ts'
import { openLocal } from '../../shared/storage/local/target.ts'
import type { SignedAddress } from '../../shared/storage/target.ts'
import { selfSigned } from '../../test/harness/certificate.ts'
import { throwAwayFolder } from '../../test/harness/folders.ts'
import { waitFor } from '../../test/harness/wait.ts'
import { startLocalServer } from './local-server.ts'
import { parseRange } from './range-header.ts'

async function served(socketFolder?: string) {
  const folder = await throwAwayFolder()
  const certificate = await selfSigned()
  const key = new Secret(randomBytes(32))
  const clock = new FakeClock('2026-11-21T02:00:00Z')
  const lines: string[] = []
  const log = createLogger({ level: 'debug', destination: { write: (line: string) => void lines.push(line) } })
  const plain = await openLocal(folder.path, { name: 'primary', clock, create: true })
  const server = await startLocalServer({
    ...certificate,
    host: '127.0.0.1',
    port: 0,
    ...(socketFolder === undefined ? {} : { socketFolder }),
    targets: [plain],
    signingKey: key,
    clock,
    log,
  })
  const signer = { baseUrl: `https://127.0.0.1:${server.port}`, key, serverCertificateSha256: certificate.sha256, clock }
  const open = (name: string, changed: Partial<typeof signer> = {}) =>
    openLocal(folder.path, { name, clock, create: true, signer: { ...signer, ...changed } })
  onTestFinished(async () => {
    const closed = server.close(0)
    await clock.advance(1)
    await closed
    await folder.remove()
  })
  return { target: await open('primary'), open, server, clock, certificate, folder: folder.path, lines }
}

/** A request by way of its Unix socket: status and body. */
function overSocket(
  socketPath: string,
  { method, url }: SignedAddress,
  body?: Buffer,
  headers: Record<string, string> = {},
): Promise<{ status: number; body: Buffer }> {
  const { pathname, search } = new URL(url)
  return new Promise((resolve, reject) => {
    const sent = request({ socketPath, method, path: `${pathname}${search}`, agent: false, headers }, (response) => {
      buffer(response).then((bytes) => resolve({ status: response.statusCode ?? 0, body: bytes }), reject)
    })
    sent.setHeader('content-length', body?.length ?? 0)
    sent.once('error', reject).end(body)
  })
}

/** A TLS connection on which a test writes what it likes. */
async function raw(port: number): Promise<{ socket: Socket; received: () => string; closed: () => boolean }> {
  const socket = connect({ port, host: '127.0.0.1', rejectUnauthorized: false })
  let text = ''
  let closed = false
  socket.on('data', (piece) => {
    text += piece.toString('latin1')
  })
  socket.on('error', () => undefined)
  socket.once('close', () => {
    closed = true
  })
  onTestFinished(() => void socket.destroy())
  await new Promise((resolve) => socket.once('secureConnect', resolve))
  return { socket, received: () => text, closed: () => closed }
}

test('an address signed with another key, or for a target that is not served, opens nothing', async () => {
  const { target, open } = await served()
  await target.put('db1/a', Buffer.from('x'))
  const forged = await open('primary', { key: new Secret(randomBytes(32)) })
  expect((await sendRaw(await forged.signGet('db1/a'))).status).toBe(403)
  expect((await sendRaw(await (await open('secondary')).signGet('db1/a'))).status).toBe(404)
})

test('a put whose address expires on its way is never seen: an attempt may be cleaned away when its last address has expired', async () => {
  const { target, server, clock, folder } = await served()
  const body = randomBytes(100_000)
  const address = await target.signPut('db1/late', { size: body.length, sha256: sha256(body) })
  const url = new URL(address.url)
  const { socket, received } = await raw(server.port)
  socket.write(`PUT ${url.pathname}${url.search} HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n\r\n`)
  socket.write(body.subarray(0, 50_000))
  await waitFor('the body to begin', async () => (await readdir(path.join(folder, '~tmp'))).length === 1)
  clock.setWall('2026-11-21T02:15:00Z')
  socket.write(body.subarray(50_000))
  await waitFor('the answer', () => received().includes('\r\n\r\n'))
  expect(received()).toContain('403')
  expect(received()).toContain('<Code>address_expired</Code>')
  expect(await target.head('db1/late')).toBeNull()
})

test('a sender that disappears in the middle leaves nothing behind', async () => {
  const { target, server, folder } = await served()
  const body = randomBytes(100_000)
  const url = new URL((await target.signPut('db1/torn', { size: body.length, sha256: sha256(body) })).url)
  const { socket } = await raw(server.port)
  socket.write(`PUT ${url.pathname}${url.search} HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n\r\n`)
  socket.write(body.subarray(0, 50_000))
  await waitFor('the body to begin', async () => (await readdir(path.join(folder, '~tmp'))).length === 1)
  socket.destroy()
  await waitFor('the rest to be gone', async () => (await readdir(path.join(folder, '~tmp'))).length === 0)
  expect(await target.head('db1/torn')).toBeNull()
})

test('no listing, no removal, no way out of the store: everything that was not signed is 403', async () => {
  const { target, server } = await served()
  await target.put('db1/a', Buffer.from('x'))
  const address = await target.signGet('db1/a')
  const { search } = new URL(address.url)
  const asked = [
    'GET /',
    'GET /primary/',
    'GET /primary/db1/',
    'GET /primary/db1/a',
    'DELETE /primary/db1/a',
    'HEAD /primary/db1/a',
    'OPTIONS *',
  ]
  const tricks = [
    '/primary/db1//a',
    '/primary/./db1/a',
    '/primary/db1/../db1/a',
    '/primary/db1/%61',
    '//primary/db1/a',
    '/primary/~sums/db1/a',
  ].map((at) => `GET ${at}${search}`)
  for (const line of [...asked, ...tricks, `GET /primary/db1/a${search}&x=1`, `GET /primary/db1/a${search}#`]) {
    const { socket, received } = await raw(server.port)
    socket.write(`${line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`)
    await waitFor('the answer', () => received().includes('\r\n\r\n'))
    expect(received().slice(9, 12), line).toMatch(/403|400/)
  }
  expect((await sendRaw(address)).status).toBe(200)
})

test('headers and addresses are bounded, and plain text is no conversation', async () => {
  const { server } = await served()
  for (const request of [
    `GET /${'a'.repeat(20_000)} HTTP/1.1\r\nHost: x\r\n\r\n`,
    `GET / HTTP/1.1\r\nHost: x\r\nX: ${'a'.repeat(20_000)}\r\n\r\n`,
  ]) {
    const { socket, received, closed } = await raw(server.port)
    socket.write(request)
    await waitFor('the connection to be closed', closed)
    expect(received()).toMatch(/^(HTTP\/1.1 431|$)/)
  }
  const plain = connectPlain(server.port, '127.0.0.1')
  onTestFinished(() => void plain.destroy())
  plain.on('error', () => undefined).write('GET / HTTP/1.1\r\nHost: x\r\n\r\n')
  await waitFor('the connection to be closed', () => plain.destroyed || plain.closed)
})

test('what lies in the store and is no file is no object', async () => {
  const { target, folder } = await served()
  await target.put('db1/a', Buffer.from('x'))
  await symlink('a', path.join(folder, 'db1/link'))
  for (const key of ['db1/link', 'db1', 'db1/absent']) expect((await sendRaw(await target.signGet(key))).status, key).toBe(404)
  expect((await sendRaw(await target.signGet('db1/a'))).status).toBe(200)
})

test('no log line holds a signature', async () => {
  const { target, lines } = await served()
  const address = await target.signGet('db1/absent')
  await sendRaw(address)
  await sendRaw(address, { url: address.url.replace(/.$/, 'x') })
  const signature = /signature=([0-9a-f]+)/.exec(address.url)?.[1] ?? ''
  expect(signature).toHaveLength(64)
  expect(lines.length).toBeGreaterThan(0)
  expect(lines.join('')).not.toContain(signature.slice(0, 20))
  expect(lines.join('')).not.toContain('signature=')
})

test('at its socket it answers what was signed, and nothing else; the socket goes with it, and what an earlier one left goes before', async () => {
  const home = await throwAwayFolder()
  onTestFinished(() => home.remove())
  const left = path.join(home.path, newSocketName())
  await writeFile(left, '')
  await writeFile(path.join(home.path, 'holdfast-mine.sock'), '')
  const { target, open, server, clock } = await served(home.path)
  const socket = server.socket ?? ''
  expect(isSocketPath(socket)).toBe(true)
  expect((await readdir(home.path)).sort()).toEqual([path.basename(socket), 'holdfast-mine.sock'].sort())
  const body = randomBytes(300_000)
  const put = await target.signPut('db1/a', { size: body.length, sha256: sha256(body) })
  expect((await overSocket(socket, put, randomBytes(300_000))).status).toBe(400)
  expect((await overSocket(socket, put, body)).status).toBe(200)
  expect((await overSocket(socket, put, body)).status).toBe(412)
  expect(await overSocket(socket, await target.signGet('db1/a'))).toEqual({ status: 200, body })
  const forged = await open('primary', { key: new Secret(randomBytes(32)) })
  expect((await overSocket(socket, await forged.signGet('db1/a'))).status).toBe(403)
  expect((await overSocket(socket, { ...(await target.signGet('db1/a')), method: 'DELETE' as 'GET' })).status).toBe(403)
  const closed = server.close(0)
  await clock.advance(1)
  await closed
  await expect(stat(socket)).rejects.toMatchObject({ code: 'ENOENT' })
})

test('at its socket, and nowhere else, it tells who accepts that where a signed object lies, and which file it is', async () => {
  const home = await throwAwayFolder()
  onTestFinished(() => home.remove())
  const { target, open, server, folder } = await served(home.path)
  await target.put('db1/a', Buffer.from('x'))
  await symlink('a', path.join(folder, 'db1/link'))
  const accept = { accept: OBJECT_FILE_TYPE }
  const address = await target.signGet('db1/a')
  const at = path.join(folder, 'db1/a')
  const { dev, ino } = await stat(at, { bigint: true })
  const told = await overSocket(server.socket ?? '', address, undefined, accept)
  expect(told.status).toBe(200)
  expect(JSON.parse(String(told.body))).toEqual({ path: at, device: String(dev), inode: String(ino) })
  expect(await sendRaw(address, { headers: accept })).toEqual({ status: 200, body: Buffer.from('x') })
  const forged = await open('primary', { key: new Secret(randomBytes(32)) })
  const refused: Array<[SignedAddress, number]> = [
    [await forged.signGet('db1/a'), 403],
    [await target.signGet('db1/absent'), 404],
    [await target.signGet('db1/link'), 404],
    [await target.signGet('db1'), 404],
  ]
  for (const [one, status] of refused) expect((await overSocket(server.socket ?? '', one, undefined, accept)).status).toBe(status)
})

function withFolder(home: string): string {
  mkdirSync(path.join(home, newSocketName()))
  return home
}

test.each([
  ['a path that is too long for one', (home: string) => path.join(home, 'x'.repeat(80)), /too long for a socket/],
  ['a file system without any', () => '/proc/self', /no socket could be made/],
  ['something of such a name that cannot be removed', withFolder, /no socket could be made/],
])('where there can be no socket it serves by HTTPS alone, and says so: %s', async (_, place, said) => {
  const home = await throwAwayFolder()
  onTestFinished(() => home.remove())
  const folder = place(home.path)
  await mkdir(folder, { recursive: true })
  const { target, server, lines } = await served(folder)
  expect(server.socket).toBeNull()
  expect(lines.join('')).toMatch(said)
  await target.put('db1/a', Buffer.from('x'))
  expect((await sendRaw(await target.signGet('db1/a'))).status).toBe(200)
})

test('a taken port is port_taken and names it', async () => {
  const { server, certificate, target, clock } = await served()
  const again = startLocalServer({
    ...certificate,
    host: '127.0.0.1',
    port: server.port,
    targets: [target],
    signingKey: new Secret(randomBytes(32)),
    clock,
    log: createLogger({ level: 'silent' }),
  })
  await expect(again).rejects.toMatchObject({ code: 'port_taken', message: expect.stringContaining(String(server.port)) })
})

test('a renewed certificate is shown to the next connection', async () => {
  const { target, server } = await served()
  const next = await selfSigned()
  server.renew(next)
  const socket = connect({ port: server.port, host: '127.0.0.1', rejectUnauthorized: false })
  onTestFinished(() => void socket.destroy())
  await new Promise((resolve) => socket.once('secureConnect', resolve))
  expect(sha256(socket.getPeerX509Certificate()?.raw ?? Buffer.alloc(0))).toEqual(next.sha256)
  expect((await sendRaw(await target.signGet('absent'))).status).toBe(404)
})

test('Range headers', () => {
  expect(parseRange(undefined, 10)).toBe('whole')
  expect(parseRange('bytes=0-', 10)).toEqual({ offset: 0, length: 10 })
  expect(parseRange('bytes=2-4', 10)).toEqual({ offset: 2, length: 3 })
  expect(parseRange('bytes=8-99', 10)).toEqual({ offset: 8, length: 2 })
  expect(parseRange('bytes=-3', 10)).toEqual({ offset: 7, length: 3 })
  expect(parseRange('bytes=-30', 10)).toEqual({ offset: 0, length: 10 })
  for (const bad of ['bytes=10-', 'bytes=4-2', 'bytes=-0', 'bytes=-', 'bytes=0-1,3-4', 'items=0-1', 'bytes=1e3-', '']) {
    expect(() => parseRange(bad, 10), bad).toThrow(expect.objectContaining({ code: 'out_of_range' }))
  }
})
