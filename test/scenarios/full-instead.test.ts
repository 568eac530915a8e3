import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { BackupView } from '../../control-plane/api/schemas/backups.ts'
import { newAgeIdentity, recipientOf } from '../../shared/age/age.ts'
import { openDataKeys } from '../../shared/repository/keys.ts'
import type { BackupDetail } from '../../shared/results.ts'
import { openStore } from '../../shared/storage/registry.ts'
import { TestHoldfast } from '../harness/holdfast.ts'

/** An incremental is asked for, and a full has to be made: it is, and says why. */

let holdfast: TestHoldfast

beforeAll(async () => {
  holdfast = await TestHoldfast.start()
  const tree = path.join(holdfast.folder.path, 'tree')
  await mkdir(tree)
  await writeFile(path.join(tree, 'file'), 'content\n'.repeat(10_000))
  await holdfast.addAgent('db1', { sources: { tree: { engine: 'files', path: tree } } })
})
afterAll(() => holdfast?.[Symbol.asyncDispose]())

async function expectFull(why: RegExp): Promise<BackupView> {
  const backup = await holdfast.operator.backUp('db1/tree', 'incremental')
  expect(backup).toMatchObject({ type: 'full', leans_on: [], valid: true })
  expect((backup.job.detail as unknown as BackupDetail).reason).toMatch(why)
  expect(await findings(backup.job.id)).toContainEqual(
    expect.objectContaining({ code: 'full_instead', message: expect.stringMatching(why) }),
  )
  return backup
}

async function findings(jobId: string): Promise<unknown[]> {
  const { operations, operator } = holdfast.server
  const found: unknown[] = []
  const events = await operations.jobEvents(operator, jobId, { after: 0, signal: AbortSignal.timeout(20_000) })
  for await (const { type, data } of events) if (type === 'finding') found.push(data)
  return found
}

async function expectIncremental(base: BackupView): Promise<void> {
  const next = await holdfast.operator.backUp('db1/tree', 'incremental')
  expect(next).toMatchObject({ type: 'incremental', leans_on: [base.id] })
  expect((next.job.detail as unknown as BackupDetail).reason).toBeUndefined()
}

describe('an incremental is a full, and says why,', () => {
  it('where the source has no good backup yet', async () => {
    await expectIncremental(await expectFull(/no good backup yet/))
  })

  it('where the list of known chunks is gone and cannot be rebuilt from the index', async () => {
    const base = await holdfast.operator.backUp('db1/tree', 'full')
    await rm(path.join(holdfast.agents.get('db1')?.home ?? '', 'known', 'tree'), { recursive: true })
    const index = path.join(holdfast.storeFolder, base.source, base.id, 'index', '1')
    const bytes = await readFile(index)
    bytes[bytes.length - 1] = (bytes[bytes.length - 1] ?? 0) ^ 1
    await writeFile(index, bytes)
    const backup = await holdfast.operator.backUp('db1/tree', 'incremental')
    expect(backup).toMatchObject({ type: 'full', leans_on: [], valid: true })
    expect((backup.job.detail as unknown as BackupDetail).reason).toMatch(/could not be rebuilt/)
    expect(await findings(backup.job.id)).toContainEqual(expect.objectContaining({ code: 'base_unusable' }))
    await expectIncremental(backup)
  })

  it('where a recipient was added: a run leans only on bases that every current recipient can open', async () => {
    const identity = await newAgeIdentity()
    await holdfast.stopServer()
    await holdfast.startServer({ recoveryRecipients: [holdfast.recovery.recipient, await recipientOf(identity)] })
    await holdfast.connected('db1')
    const full = await expectFull(/recipients were added/)
    const store = await openStore(holdfast.storeFolder)
    const keys = await store.get(`${full.source}/${full.id}/keys/1`)
    expect((await openDataKeys(keys, [identity])).keys).toHaveLength(1)
    await store.close()
    await expectIncremental(full)
  })

  it('where the primary target was changed', async () => {
    const second = { kind: 'local', path: path.join(holdfast.folder.path, 'second') }
    const policy = { select: { sources: ['db1/tree'] }, targets: ['second'] }
    await holdfast.stopServer()
    await holdfast.startServer({
      targets: { primary: { kind: 'local', path: holdfast.storeFolder }, second: second as never },
    })
    await holdfast.connected('db1')
    await holdfast.operator.ask('PUT', '/api/v1/fleet', { policies: { moved: policy } })
    const full = await expectFull(/on another target/)
    expect(full.copies).toMatchObject([{ target: 'second', state: 'good' }])
    await expectIncremental(full)
  })
})
