import { type AddressInfo, createServer } from 'node:net'
import { onTestFinished } from 'vitest'
import type { SignedRequest } from '../../../shared/generated/holdfast/agent/v1/objects.ts'

export const signed = (changed: Partial<SignedRequest>): SignedRequest => ({
  method: 'GET',
  url: 'https://store.example.com/a?signature=x',
  headers: {},
  validSeconds: 900,
  serverCertificateSha256: Buffer.alloc(0),
  alreadyStored: false,
  localSocket: '',
  ...changed,
})

/** A server that answers everything with the same bytes and closes. `asked` gets the first line of each request. At a socket, where one is named. */
export async function answering(bytes: Buffer, asked: string[] = [], at?: string): Promise<string> {
  const server = createServer((socket) => {
    socket.on('error', () => undefined)
    socket.once('data', (head: Buffer) => {
      asked.push(head.toString('latin1').split('\r\n', 1)[0] as string)
      socket.end(bytes)
    })
  })
  await new Promise<void>((resolve) => server.listen(at === undefined ? { port: 0, host: '127.0.0.1' } : { path: at }, resolve))
  onTestFinished(() => new Promise<void>((resolve) => server.close(() => resolve())))
  return at ?? `http://127.0.0.1:${(server.address() as AddressInfo).port}/a`
}
