import { randomInt } from 'node:crypto'
import { createServer } from 'node:net'

/**
 * Ports of 127.0.0.1 for servers that have to be told theirs, or come back to it. They lie below those that the kernel gives to whoever asks for any, and to the
 * near end of each connection (net.ipv4.ip_local_port_range: 32,768 and more): one of those is now and then another's before the server begins, or begins again.
 * Test files that run side by side choose from parts of their own.
 */
const LOWEST = 16_384
const PARTS = 16
const PART_PORTS = 1024

const first = LOWEST + (Number(process.env.VITEST_POOL_ID ?? 0) % PARTS) * PART_PORTS
const given = new Set<number>()

/** A port that nothing listens on, never the same twice in one process. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = first + randomInt(PART_PORTS)
    if (await isOurs(port)) return port
  }
}

/** The first of three in a row that nothing listens on. */
export async function threeFreePorts(): Promise<number> {
  for (;;) {
    const port = first + randomInt(PART_PORTS - 2)
    if ((await isOurs(port)) && (await isOurs(port + 1)) && (await isOurs(port + 2))) return port
  }
}

/** Given before it is looked at: of two who ask at a time one gets it. */
async function isOurs(port: number): Promise<boolean> {
  if (given.has(port)) return false
  given.add(port)
  return isFree(port)
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', () => resolve(false))
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)))
  })
}
