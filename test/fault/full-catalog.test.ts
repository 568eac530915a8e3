import { mkdir } from 'node:fs/promises'
import path from 'node:path'
import { expect, it } from 'vitest'
import type { JobView } from '../../control-plane/api/schemas/jobs.ts'
import { throwAwayFolder } from '../harness/folders.ts'
import { TestHoldfast } from '../harness/holdfast.ts'
import { seeded } from '../harness/seeded.ts'
import { ShiftedClock } from '../harness/shifted-clock.ts'
import { smallDisk } from '../harness/small-disk.ts'
import { treeHash, writeTree } from './bench.ts'

/** The embedded catalog, the keys and the self-backup. */
const MEGABYTES = 256

it("a full disk under a control plane's home: what cannot be recorded is refused, what was acknowledged is there after a kill, and it goes on when there is room", async ({
  skip,
}) => {
  await using outer = await throwAwayFolder()
  const home = path.join(outer.path, 'server')
  const disk = await smallDisk(home, MEGABYTES)
  if (!disk) return skip('mounting a file system takes rights that this user does not have')
  const clock = new ShiftedClock()
  const holdfast = await TestHoldfast.start({ home, clock, logLevel: 'silent' })
  try {
    const tree = path.join(holdfast.folder.path, 'data', 'tree')
    await mkdir(tree, { recursive: true })
    await writeTree(tree, seeded(6), 1_000_000)
    await holdfast.addAgent('db1', { sources: { tree: { engine: 'files', path: tree } } })
    let server = await holdfast.startShiftedServer(clock)
    await holdfast.connected('db1')
    const before = await holdfast.operator.backUp('db1/tree', 'full')
    const acknowledged = [before.job.id]

    await disk.fill()
    for (;;) {
      // all that is there can still be read
      expect((await holdfast.operator.job(before.job.id)).status).toBe('succeeded')
      const { status, body } = await holdfast.operator.call('POST', `/api/v1/backups/${before.id}/verify`, {})
      if (status < 300) acknowledged.push((body as JobView).id)
      if (status !== 507) continue
      expect(body).toMatchObject({ code: 'disk_full', detail: expect.stringContaining('catalog') })
      expect(JSON.stringify(body)).not.toContain('insert')
      break
    }
    await server.stop({ signal: 'SIGKILL' })
    await disk.empty()
    server = await holdfast.startShiftedServer(clock)
    await holdfast.connected('db1')
    for (const id of acknowledged) expect((await holdfast.operator.over(await holdfast.operator.job(id))).id).toBe(id)
    expect((await holdfast.operator.validate(before.id)).valid).toBe(true)
    const next = await holdfast.operator.backUp('db1/tree', 'incremental')
    expect(next).toMatchObject({ status: 'good', leans_on: [before.id] })
    await holdfast.operator.restore(next.id, { target: 'db1/copy' })
    expect(await treeHash(path.join(path.dirname(tree), 'copy'))).toBe(await treeHash(tree))
    await Promise.all([...holdfast.agents.values()].map((agent) => agent.stop()))
    await server.stop()
  } finally {
    await Promise.all([...holdfast.agents.values()].map((agent) => agent.stop()))
    await holdfast.stopServer()
    await disk.stop()
    await holdfast.folder.remove()
  }
})
