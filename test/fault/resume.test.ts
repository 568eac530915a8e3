import { mkdir, open } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import type { JobView } from '../../control-plane/api/schemas/jobs.ts'
import type { Fault, SeenRequest } from '../harness/fault-proxy.ts'
import type { TestAgent } from '../harness/holdfast.ts'
import { seeded } from '../harness/seeded.ts'
import { waitFor } from '../harness/wait.ts'
import { FaultBench, randomBytes, storesPack, treeHash } from './bench.ts'

/**
 * An attempt that failed at about 95 % sends again at most 64 MiB: counted by the bodies that the store was sent, of a source that is several
 * times as large.
 */

const MIB = 2 ** 20
const SOURCE = 320 * MIB
const PROMISE = 64 * MIB
/** Of the packs, each of about 16 MiB. */
const NEARLY_ALL = Math.floor((SOURCE / (16 * MIB)) * 0.95)

let bench: FaultBench | null
let agent: TestAgent
let tree: string

beforeAll(async () => {
  bench = await FaultBench.start()
  if (!bench) return
  tree = path.join(bench.holdfast.folder.path, 'data', 'tree')
  await mkdir(tree, { recursive: true })
  const random = seeded(95)
  await writeFile('one', SOURCE * 0.75, random)
  for (let n = 0; n < 20; n++) await writeFile(`file ${n}`, (SOURCE * 0.25) / 20, random)
  agent = await bench.holdfast.addAgent('db1', { sources: { tree: { engine: 'files', path: tree } } })
})

afterAll(() => bench?.[Symbol.asyncDispose]())

async function writeFile(name: string, bytes: number, random: () => number): Promise<void> {
  await using file = await open(path.join(tree, name), 'w')
  for (let left = bytes; left > 0; left -= 4 * MIB) await file.write(randomBytes(random, Math.min(left, 4 * MIB)))
}

/** From the pack on that is the last of about 95 %, each meets the fault. */
function lateFault(on: FaultBench, fault: Fault): { met: Promise<void>; mend: () => void } {
  const met = Promise.withResolvers<void>()
  const packs = new Set<string>()
  on.proxy.script = (request) => {
    if (!storesPack(request)) return { kind: 'pass' }
    packs.add(nameOf(request))
    if (packs.size <= NEARLY_ALL) return { kind: 'pass' }
    met.resolve()
    return fault
  }
  return { met: met.promise, mend: () => (on.proxy.script = () => ({ kind: 'pass' })) }
}

const nameOf = ({ url }: SeenRequest): string => url.split('?')[0] ?? url

/** Bytes of the bodies that were let through to the store, for packs of these attempts. */
function sentBy(on: FaultBench, job: JobView, attempts: RegExp): number {
  const fits = new RegExp(`${job.backup_id}/packs/${attempts.source}-`)
  const through = on.proxy.seen.filter(({ method, url, fault }) => method === 'PUT' && fits.test(url) && fault.kind !== 'status')
  return through.reduce((sum, { headers }) => sum + Number(headers['content-length']), 0)
}

async function expectKept(on: FaultBench, job: JobView): Promise<void> {
  const id = job.backup_id ?? 'none'
  const backup = await on.holdfast.operator.backup(id)
  expect(backup).toMatchObject({ status: 'good', valid: true })
  expect(job.attempt).toBeGreaterThan(1)
  const [first, later] = [sentBy(on, job, /1/), sentBy(on, job, /[2-9]/)]
  // it failed where it should: nearly all was there, and not all
  expect(first).toBeGreaterThan(SOURCE * 0.9)
  expect(later).toBeGreaterThan(0)
  expect(first + later - SOURCE).toBeLessThanOrEqual(PROMISE)
  expect(later).toBeLessThanOrEqual(SOURCE * 0.05 + PROMISE)
}

it('a target that goes away at 95 %: the next attempt sends at most 64 MiB again', async ({ skip }) => {
  const on = bench ?? skip('the S3 server cannot be had on this machine')
  const { met, mend } = lateFault(on, { kind: 'status', status: 403 })
  const job = await on.holdfast.operator.startBackup('db1/tree', 'full')
  await met
  await waitFor('the first attempt to have failed', async () => (await on.look(job.id)).status === 'queued')
  mend()
  await expectKept(on, await on.done(job, 120_000))
})

it('kill -9 of the agent at 95 %, and its restart: the next attempt sends at most 64 MiB again', async ({ skip }) => {
  const on = bench ?? skip('the S3 server cannot be had on this machine')
  const held = Promise.withResolvers<void>()
  const { met, mend } = lateFault(on, { kind: 'hold', release: held.promise })
  const job = await on.holdfast.operator.startBackup('db1/tree', 'full')
  await met
  await agent.stop('SIGKILL')
  mend()
  held.resolve()
  await agent.start()
  const over = await on.done(job, 120_000)
  await expectKept(on, over)
  await on.done(await on.holdfast.operator.startRestore(over.backup_id ?? '', { target: 'db1/copy' }), 120_000)
  expect(await treeHash(path.join(path.dirname(tree), 'copy'))).toBe(await treeHash(tree))
})
