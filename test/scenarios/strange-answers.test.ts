import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { JobView } from '../../control-plane/api/schemas/jobs.ts'
import { TestHoldfast } from '../harness/holdfast.ts'
import { Thief } from '../harness/thief.ts'
import { waitFor } from '../harness/wait.ts'

/** An agent that answers what no agent of ours would: another version, a broken one, or one that was taken over. */

let holdfast: TestHoldfast
let thief: Thief
let backup: string

beforeAll(async () => {
  holdfast = await TestHoldfast.start()
  const folder = path.join(holdfast.folder.path, 'conf')
  await mkdir(folder)
  await writeFile(path.join(folder, 'hosts.conf'), 'a line\n')
  const agent = await holdfast.addAgent('db1', { sources: { conf: { engine: 'files', path: folder } } })
  backup = (await holdfast.operator.backUp('db1/conf', 'full')).id
  await agent.stop()
  thief = await Thief.of(holdfast, 'db1')
  await thief.connect([{ name: 'conf', engine: 'files' }])
})

afterAll(async () => {
  await thief?.[Symbol.asyncDispose]()
  await holdfast?.[Symbol.asyncDispose]()
})

describe('an answer without its form', () => {
  const answers = { 'no JSON': '{', 'another shape': '{"too_large":true}', 'a list': '[1,2]', 'deep lists': '['.repeat(50_000) }

  it.each(Object.entries(answers))('fails its job, is confirmed, and the stream goes on: %s', async (_, detail) => {
    for (const kind of ['verify', 'test-restore']) {
      const job = await holdfast.operator.ask<JobView>('POST', `/api/v1/backups/${backup}/${kind}`, {})
      const { attempt } = await thief.command(job.id)
      thief.succeed({ jobId: job.id, attempt }, detail)
      const over = await holdfast.operator.over(job)
      expect(over).toMatchObject({ status: 'failed', attempt: 1, error: { code: 'invalid_argument' } })
      await waitFor('the answer to be confirmed', () => thief.confirmed.includes(job.id))
    }
    expect(await holdfast.operator.backup(backup)).toMatchObject({ status: 'good', verified_at: null })
  })
})
