import { randomBytes } from 'node:crypto'
import { mkdir, readdir, readFile, rename, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { beforeAll, beforeEach, expect, test } from 'vitest'
import type { ServerOptions } from '../../control-plane/server/options.ts'
import { createLogger } from '../../shared/log.ts'
import { isSocketName } from '../../shared/storage/local/socket-path.ts'
import { TestHoldfast } from '../harness/holdfast.ts'
import { standing } from '../harness/standing.ts'
import { waitFor } from '../harness/wait.ts'

/** The way of the objects between an agent and a local target of the control plane on the same host, by the log of the target's server. */

const holdfast = standing('a whole Holdfast', () => TestHoldfast.start())
let data: string

interface Asked {
  readonly method: string
  readonly peer: string
  readonly msg: string
}
/** Each request for an object. */
const asked: Asked[] = []
const log = createLogger({
  level: 'debug',
  destination: {
    write: (line: string) => {
      const entry = JSON.parse(line) as Asked
      if (entry.peer !== undefined) asked.push(entry)
    },
  },
})

beforeAll(async () => {
  data = path.join(holdfast.folder.path, 'data')
  await mkdir(path.join(data, 'tree'), { recursive: true })
  await restart()
  await holdfast.addAgent('db1', { sources: { tree: { engine: 'files', path: path.join(data, 'tree') } } })
})
beforeEach(() => {
  asked.length = 0
})

async function restart(more: Partial<ServerOptions> = {}, meanwhile: () => Promise<void> = async () => undefined): Promise<void> {
  await holdfast.stopServer()
  await meanwhile()
  await holdfast.startServer({ log, ...more })
}

const sockets = async (home: string): Promise<string[]> => (await readdir(home)).filter(isSocketName)

/** A backup of something new and its restore under this name: the methods, peers and ends of all requests for objects. */
async function thereAndBack(name: string) {
  const bytes = randomBytes(100_000)
  await writeFile(path.join(data, 'tree', 'file'), bytes)
  const backup = await holdfast.operator.backUp('db1/tree', 'full')
  await holdfast.operator.restore(backup.id, { target: `db1/${name}` })
  expect((await readFile(path.join(data, name, 'file'))).equals(bytes)).toBe(true)
  await waitFor('the log to tell of both', () => ['PUT', 'GET'].every((method) => asked.some((one) => one.method === method)))
  const endsOf = (method: string) => [...new Set(asked.filter((one) => one.method === method).map(({ msg }) => msg))]
  return { peers: [...new Set(asked.map(({ peer }) => peer))], put: endsOf('PUT'), got: endsOf('GET') }
}

/** Put by the socket, and read from their files. */
const HERE = { peers: ['this host'], put: ['object served'], got: ['told where the object lies'] }

test('on the control plane’s own host all objects of a backup go by the socket, and its restore reads them from their files', async () => {
  expect(await sockets(holdfast.home)).toHaveLength(1)
  expect(await thereAndBack('first')).toEqual(HERE)
})

test('a control plane that starts again has another socket, and what comes next goes by that', async () => {
  const before = await sockets(holdfast.home)
  await restart({}, async () => {
    expect(await sockets(holdfast.home)).toEqual([])
  })
  await holdfast.connected('db1')
  const after = await sockets(holdfast.home)
  expect(after).toHaveLength(1)
  expect(after).not.toEqual(before)
  expect(await thereAndBack('second')).toEqual(HERE)
})

test('in a folder whose path is too long for a socket there is none, and the same goes over HTTPS', async () => {
  const home = path.join(holdfast.folder.path, 'x'.repeat(80))
  const catalog = { kind: 'embedded', folder: path.join(home, 'catalog') } as const
  await restart({ home, catalog }, () => rename(holdfast.home, home))
  await holdfast.connected('db1')
  expect(await sockets(home)).toEqual([])
  expect(await thereAndBack('third')).toEqual({ peers: ['127.0.0.1'], put: ['object served'], got: ['object served'] })
})
