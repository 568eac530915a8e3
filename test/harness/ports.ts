import { createServer } from 'node:net'

const given = new Set<number>()

/**
 * A port of 127.0.0.1 that nothing listens on, never the same twice in one process. The kernel picks it from its range of
 * ephemeral ports, so another process may still take it first: start servers with port 0 where they can say what they got.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = await pickPort()
    if (given.has(port)) continue
    given.add(port)
    return port
  }
}

function pickPort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const address = server.address()
      const port = address !== null && typeof address === 'object' ? address.port : 0
      server.close(() => resolve(port))
    })
  })
}
