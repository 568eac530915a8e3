import { mkdir } from 'node:fs/promises'
import path from 'node:path'
import { expect, it } from 'vitest'
import { seeded } from '../harness/seeded.ts'
import { describesBackup, FaultBench, treeHash, writeTree } from './bench.ts'

it('a control plane away for longer than a lease gives nothing up: the agent keeps its backup, and the new one takes it over', async ({
  skip,
}) => {
  // longer than an agent ever waits before it tries to connect again
  await using bench = await FaultBench.start({ fleetSettings: { leaseSeconds: 20, heartbeatSeconds: 1, pollMs: 500 } })
  if (!bench) return skip('the S3 server cannot be had on this machine')
  const { holdfast, clock } = bench
  const tree = path.join(holdfast.folder.path, 'data', 'tree')
  await mkdir(tree, { recursive: true })
  await writeTree(tree, seeded(7), 1_000_000)
  await holdfast.addAgent('db1', { sources: { tree: { engine: 'files', path: tree } } })
  const { caught, release } = bench.catchOne(describesBackup)
  const job = await holdfast.operator.startBackup('db1/tree', 'full')
  await caught
  await holdfast.stopServer()
  // by the clock of the one that comes the lease ended long ago
  clock.shiftMs += 60_000
  await holdfast.startServer()
  await holdfast.connected('db1')
  expect(await bench.look(job.id)).toMatchObject({ status: 'running', attempt: 1 })
  release()
  const over = await bench.done(job)
  expect(over.attempt).toBe(1)
  expect(await bench.failures(job)).toEqual([])
  await holdfast.operator.restore(over.backup_id ?? '', { target: 'db1/copy' })
  expect(await treeHash(path.join(path.dirname(tree), 'copy'))).toBe(await treeHash(tree))
})
