import { mkdir } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { BackupView } from '../../control-plane/api/schemas/backups.ts'
import type { Fault, SeenRequest } from '../harness/fault-proxy.ts'
import { seeded } from '../harness/seeded.ts'
import { FaultBench, readsPack, storesPack, treeHash, writeTree } from './bench.ts'

/** Whatever a store answers for a while: backups and restores end good, and byte for byte the same. */

let bench: FaultBench | null
let tree: string
let good: BackupView
let copies = 0

beforeAll(async () => {
  bench = await FaultBench.start()
  if (!bench) return
  tree = path.join(bench.holdfast.folder.path, 'data', 'tree')
  await mkdir(tree, { recursive: true })
  await writeTree(tree, seeded(3), 1_500_000)
  await bench.holdfast.addAgent('db1', { sources: { tree: { engine: 'files', path: tree } } })
  good = await bench.holdfast.operator.backUp('db1/tree', 'full')
})

afterAll(() => bench?.[Symbol.asyncDispose]())

function use(skip: (why: string) => never): FaultBench {
  return bench ?? skip('the S3 server cannot be had on this machine')
}

/** The first `times` requests that fit meet the fault. */
function firstOnes(on: FaultBench, fits: (request: SeenRequest) => boolean, times: number, fault: Fault): () => number {
  let met = 0
  on.proxy.script = (request) => {
    if (met >= times || !fits(request)) return { kind: 'pass' }
    met += 1
    return fault
  }
  return () => met
}

async function expectRestores(on: FaultBench, id: string): Promise<void> {
  copies += 1
  const job = await on.holdfast.operator.startRestore(id, { target: `db1/copy-${copies}` })
  await on.done(job)
  expect(await treeHash(path.join(path.dirname(tree), `copy-${copies}`))).toBe(await treeHash(tree))
}

const status = (code: number): Fault => ({ kind: 'status', status: code })
const SLOW: Fault = { kind: 'slow', bytesPerSecond: 1_000_000 }

describe.each<[string, Fault, Fault]>([
  ['answers 500', status(500), status(500)],
  ['answers 503', status(503), status(503)],
  ['answers 403', status(403), status(403)],
  ['answers 409', status(409), status(409)],
  ['answers 412', status(412), status(412)],
  ['is slow', SLOW, SLOW],
  ['tears a body', { kind: 'cut-request', afterBytes: 50_000 }, { kind: 'cut-reply', afterBytes: 50_000 }],
  ['changes a body', { kind: 'flip-request', atByte: 20_000 }, { kind: 'cut-reply', afterBytes: 10 }],
  ['does it and loses the reply', { kind: 'lose-reply' }, { kind: 'lose-reply' }],
])('a store that %s twice', (_name, onPut, onGet) => {
  it('does not keep a backup from being good', async ({ skip }) => {
    const on = use(skip)
    const met = firstOnes(on, storesPack, 2, onPut)
    const over = await on.done(await on.holdfast.operator.startBackup('db1/tree', 'full'))
    expect(met()).toBeGreaterThan(0)
    expect(over.attempt).toBe(1)
    expect(await on.holdfast.operator.backup(over.backup_id ?? '')).toMatchObject({ status: 'good', valid: true })
    await expectRestores(on, over.backup_id ?? '')
  })

  it('does not keep a restore from being byte for byte the same', async ({ skip }) => {
    const on = use(skip)
    const met = firstOnes(on, readsPack, 2, onGet)
    await expectRestores(on, good.id)
    expect(met()).toBeGreaterThan(0)
  })
})
