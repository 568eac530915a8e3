import { existsSync, readFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { expect, it } from 'vitest'
import { freePort, threeFreePorts } from './ports.ts'

const RANGE = '/proc/sys/net/ipv4/ip_local_port_range'
const lowest = existsSync(RANGE) ? Number(readFileSync(RANGE, 'utf8').split(/\s+/)[0]) : 0

it.runIf(lowest >= 32_768)('a port for a server is none that the kernel gives to whoever asks for any', async () => {
  for (let n = 0; n < 20; n++) expect(await freePort()).toBeLessThan(lowest)
  expect((await threeFreePorts()) + 2).toBeLessThan(lowest)
})

it('a port is given once, and only where nothing listens', async () => {
  const ports = await Promise.all(Array.from({ length: 300 }, freePort))
  expect(new Set(ports).size).toBe(300)
  const three = await threeFreePorts()
  for (const port of [three, three + 1, three + 2]) {
    expect(ports).not.toContain(port)
    const server = createServer()
    await new Promise<void>((resolve, reject) => server.once('error', reject).listen(port, '127.0.0.1', resolve))
    await new Promise((resolve) => server.close(resolve))
  }
})
