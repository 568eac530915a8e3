import { createServer } from 'node:net'

const given = new Set<number>()

/** The first of three in a row that nothing listens on. */
export async function threeFreePorts(): Promise<number> {
  for (;;) {
    const first = await freePort()
    const next = [first + 1, first + 2]
    if (next.some((port) => port > 65_535 || given.has(port))) continue
    if (!(await Promise.all(next.map(isFree))).every(Boolean)) continue
    for (const port of next) given.add(port)
    return first
  }
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', () => resolve(false))
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)))
  })
}

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
