import { randomBytes } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { BackupView } from '../../control-plane/api/schemas/backups.ts'
import type { JobView } from '../../control-plane/api/schemas/jobs.ts'
import type { VerifyDetail } from '../../shared/results.ts'
import { FaultBench } from '../fault/bench.ts'
import { waitFor } from '../harness/wait.ts'

/** Verifications with a budget, by the bytes that are read at the store. */

let bench: FaultBench | null
/** The newest of four: it leans on the others, and each has packs of its own. */
let backup: BackupView

beforeAll(async () => {
  bench = await FaultBench.start()
  if (!bench) return
  const { holdfast } = bench
  const at = (name: string) => path.join(holdfast.folder.path, 'data', name)
  for (const name of ['tree', 'other']) await mkdir(at(name), { recursive: true })
  await holdfast.addAgent('db1', { sources: { tree: { engine: 'files', path: at('tree') } } })
  await holdfast.addAgent('db2', { restores_from: ['db1'], sources: { other: { engine: 'files', path: at('other') } } })
  for (let n = 0; n < 4; n++) {
    await writeFile(path.join(at('tree'), `file-${n}`), randomBytes(2_000_000))
    backup = await holdfast.operator.backUp('db1/tree', n === 0 ? 'full' : 'incremental')
  }
})
afterAll(() => bench?.[Symbol.asyncDispose]())
beforeEach(({ skip }) => {
  if (!bench) skip('the S3 server cannot be had on this machine')
})

interface Looked {
  readonly job: JobView
  readonly detail: VerifyDetail
  /** Bytes of packs that were asked for at the store. */
  readonly bytes: number
  /** Packs of which more than the half was asked for at once: pages of contents and directories are a small part. */
  readonly whole: string[]
}

async function verify(body: Record<string, unknown>): Promise<Looked> {
  const { holdfast, proxy } = bench as FaultBench
  const before = proxy.seen.length
  const job = await holdfast.operator.done(await holdfast.operator.ask('POST', `/api/v1/backups/${backup.id}/verify`, body))
  const gets = proxy.seen.slice(before).flatMap(({ method, url, headers }) => {
    const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(headers.range ?? '') ?? []
    const pack = /[^/]+\/packs\/[^?]+/.exec(url)?.[0]
    return method === 'GET' && pack ? [{ pack, bytes: Number(to) - Number(from) + 1 }] : []
  })
  return {
    job,
    detail: job.detail as unknown as VerifyDetail,
    bytes: gets.reduce((sum, get) => sum + get.bytes, 0),
    whole: [...new Set(gets.filter(({ bytes }) => bytes > 1_000_000).map(({ pack }) => pack))].sort(),
  }
}

describe('a verification with a budget', () => {
  it('says before it starts what it would read, and has read none of it', async () => {
    const plan = await verify({ share_percent: 30, dry_run: true })
    expect(plan.detail).toMatchObject({ valid: true, plan_only: true, packs: { needed: 4, chosen: 1 } })
    expect(plan.whole).toEqual([])
    expect(plan.bytes).toBeLessThan(0.05 * (plan.detail.packs?.needed_bytes ?? 0))
    expect((await (bench as FaultBench).holdfast.operator.backup(backup.id)).verified_at).toBeNull()
  })

  it('reads what the plan said, and run after run other packs, until it has read all', async () => {
    const read = new Set<string>()
    for (let run = 1; run <= 4; run++) {
      const plan = await verify({ share_percent: 30, dry_run: true })
      const one = await verify({ share_percent: 30 })
      expect(one.detail).toMatchObject({ valid: true, plan_only: false, bytes_checked: plan.detail.bytes_checked })
      const chosen = one.detail.packs?.chosen_bytes ?? 0
      expect(one.bytes).toBeGreaterThanOrEqual(chosen)
      expect(one.bytes).toBeLessThan(chosen * 1.2)
      for (const pack of one.whole) read.add(pack)
      expect([one.job.agent, one.whole.length, read.size]).toEqual(['db2', 1, run])
      expect(one.detail).not.toHaveProperty('good')
    }
  })

  it('by age reads nothing that was verified since, and everything once it is older', async () => {
    const recent = await verify({ older_than_seconds: 86_400 })
    expect([recent.whole, recent.detail.packs]).toEqual([[], expect.objectContaining({ needed: 4, chosen: 0 })])
    expect((await (bench as FaultBench).holdfast.operator.backup(backup.id)).verified_at).toBeNull()
    await waitFor('the newest to be that old', async () => {
      const plan = await verify({ older_than_seconds: 1, dry_run: true })
      return plan.detail.packs?.chosen === 4
    })
    const older = await verify({ older_than_seconds: 1 })
    expect(older.whole.length).toBe(4)
    expect(await (bench as FaultBench).holdfast.operator.backup(backup.id)).toMatchObject({ verified_by: 'db2' })
  })
})
