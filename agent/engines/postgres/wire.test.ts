import { once } from 'node:events'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { expect, onTestFinished, test } from 'vitest'
import { Wire } from './wire.ts'

/** A server that answers as the test says; the connections to it. */
async function answering(answer: (socket: Socket, asked: Buffer) => void) {
  const server = createServer((socket) => {
    socket.on('error', () => undefined).on('data', (asked: Buffer) => answer(socket, asked))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => void server.close())
  const { port } = server.address() as AddressInfo
  return (tls: false | 'prefer' | object = false) => Wire.open({ host: '127.0.0.1', port, tls })
}

/** As the client takes it: what it is told besides rows. */
function client(wire: Wire): { heard: () => string; failed: Promise<Error> } {
  let heard = ''
  wire.on('data', (bytes: Buffer) => {
    heard += bytes.toString('latin1')
  })
  onTestFinished(() => wire.destroy())
  return { heard: () => heard, failed: new Promise((resolve) => wire.on('error', resolve)) }
}

function message(type: string, text: string): Buffer {
  const head = Buffer.alloc(5, type, 'latin1')
  head.writeUInt32BE(text.length + 4, 1)
  return Buffer.concat([head, Buffer.from(text)])
}

const asked = (wire: Wire, rows: Promise<number>) => async () => {
  wire.write(Buffer.from('copy'))
  return rows
}

async function collected(rows: AsyncIterable<Buffer>): Promise<string> {
  let text = ''
  for await (const piece of rows) text += piece.toString('latin1')
  return text
}

const SSL_REQUEST = '000000080' + '4d2162f'

test('rows come without what they came in, and the client hears all else', async () => {
  const open = await answering((socket) => {
    socket.write(
      Buffer.concat([message('H', '\0\0\0'), message('d', 'a\n'), message('N', 'notice'), message('d', 'b\n'), message('c', '')]),
    )
    socket.write(message('C', 'COPY 2\0'))
  })
  const wire = await open()
  const { heard } = client(wire)
  const ended = Promise.withResolvers<number>()
  wire.on('data', () => heard().includes('COPY 2') && ended.resolve(2))
  expect(await collected(wire.rows(asked(wire, ended.promise)))).toBe('a\nb\n')
  expect(heard()).toBe(String(Buffer.concat([message('N', 'notice'), message('C', 'COPY 2\0')])))
})

test('rows are read no faster than they are used: two pieces, and what the system holds', async () => {
  let sent = 0
  const ended = Promise.withResolvers<number>()
  const open = await answering((socket) => {
    const rows = Buffer.concat(Array.from({ length: 1000 }, () => message('d', 'x'.repeat(995))))
    const more = () => {
      while (sent < 64_000 && socket.writable) {
        sent += 1000
        if (!socket.write(rows)) return void socket.once('drain', more)
      }
      socket.write(message('C', 'COPY 64000\0'))
    }
    more()
  })
  const wire = await open()
  wire.on('data', () => ended.resolve(64_000))
  onTestFinished(() => wire.destroy())
  const rows = wire.rows(asked(wire, ended.promise))
  let bytes = (await rows.next()).value?.length ?? 0
  // with nothing to wait for: turns in which all could come, were it read
  for (let turn = 0; turn < 2000; turn++) await new Promise((resolve) => setImmediate(resolve))
  expect(sent).toBeLessThan(64_000)
  for await (const piece of rows) bytes += piece.length
  expect(bytes).toBe(64_000 * 995)
})

test('a number of rows that is not the one that came fails it: what is lost on the way is not a backup', async () => {
  const open = await answering((socket) => socket.write(Buffer.concat([message('d', 'a\n'), message('C', 'COPY 2\0')])))
  const wire = await open()
  const ended = Promise.withResolvers<number>()
  wire.on('data', () => ended.resolve(2))
  onTestFinished(() => wire.destroy())
  await expect(collected(wire.rows(asked(wire, ended.promise)))).rejects.toMatchObject({
    code: 'source_corrupt',
    message: 'the server says that it sent 2 rows, and 1 came',
  })
})

test('what is no message of the protocol ends the connection', async () => {
  const open = await answering((socket) =>
    socket.write(Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n'.replace('TTP/', '\xff\xff\xff\xff'), 'latin1')),
  )
  const wire = await open()
  const { failed } = client(wire)
  wire.write(Buffer.from('x'))
  expect(await failed).toMatchObject({ message: 'the server sent what is no message of its protocol' })
})

test.each([
  ['S and more, which would be taken for what comes after the handshake', 'SE\0\0\0\x09', 'prefer', 'source_unreachable'],
  ['no TLS where it is asked for', 'N', {}, 'source_denied'],
  ['something else', 'HTTP/1.1 400', 'prefer', 'source_unreachable'],
] as const)('a server that answers the wish for TLS with %s is not gone on with', async (_, answer, tls, code) => {
  const heard: string[] = []
  const open = await answering((socket, bytes) => {
    heard.push(bytes.toString('hex'))
    socket.write(Buffer.from(answer, 'latin1'))
  })
  await expect(open(tls)).rejects.toMatchObject({ code })
  expect(heard).toEqual([SSL_REQUEST])
})

test('a server that has no TLS is gone on with where it may be so', async () => {
  const open = await answering((socket, bytes) => {
    socket.write(bytes.toString('hex') === SSL_REQUEST ? 'N' : message('R', 'ok'))
  })
  const wire = await open('prefer')
  const { heard } = client(wire)
  wire.write(Buffer.from('start'))
  await expect.poll(heard).toBe(String(message('R', 'ok')))
})

test.each([false, 'prefer'] as const)('what fails while it connects is told with its code, with TLS %s', async (tls) => {
  const open = await answering((socket) => socket.destroy())
  if (tls) await expect(open(tls)).rejects.toMatchObject({ code: expect.stringMatching(/CONNECTION_CLOSED|ECONNRESET/) })
  const nobody = createServer()
  nobody.listen(0, '127.0.0.1')
  await once(nobody, 'listening')
  const { port } = nobody.address() as AddressInfo
  await new Promise((resolve) => nobody.close(resolve))
  await expect(Wire.open({ host: '127.0.0.1', port, tls })).rejects.toMatchObject({ code: 'ECONNREFUSED' })
  await expect(Wire.open({ host: 'x', port: 1, path: '/run/nothing/.s.PGSQL.1', tls })).rejects.toMatchObject({ code: 'ENOENT' })
})
