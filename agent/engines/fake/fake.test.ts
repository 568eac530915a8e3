import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { FakeClock } from '../../../shared/fake-clock.ts'
import { memorySink } from '../testing/memory.ts'
import { backupPlan, failureOf, withRun } from '../testing/plans.ts'
import type { TestRun } from '../testing/run.ts'
import { fakeConfig } from './config.ts'
import { fakeEngine } from './fake.ts'
import { writePlace } from './store.ts'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'fake-'))
  const config = fakeConfig.parse({ folder, place: 'source' })
  await writePlace({ config, targetName: null }, new Map([['part', Buffer.from('a\nb\n')]]))
})
afterEach(() => rm(folder, { recursive: true, force: true }))

const backup = (told: object, run: TestRun, { sink, ...rest } = memorySink()) => ({
  ...rest,
  done: fakeEngine.backup(backupPlan(fakeConfig.parse({ folder, place: 'source', ...told })), sink, run),
})

test('it fails at the byte it was told', () =>
  withRun(async (run) => {
    const error = await failureOf(backup({ piece_bytes: 1, fail_at_byte: 3 }, run).done)
    expect(error).toMatchObject({ code: 'tool_failed', message: 'the fake tool failed at byte 3' })
  }))

test('it lies about its counts when told to, and gives the bytes that were asked for', () =>
  withRun(async (run) => {
    const told = { lie: { part: 5 }, generate: { bytes: 130, seed: 1 } }
    const [one, two] = [backup(told, run), backup(told, run)]
    expect((await one.done).counts).toEqual({ part: 7 })
    await two.done
    expect(one.backup.streams.get('part')?.bytes).toHaveLength(130)
    expect(one.backup.streams.get('part')?.bytes).toEqual(two.backup.streams.get('part')?.bytes)
  }))

test('slow is ended by an abort, hanging is deaf to it for as long as told', () =>
  withRun(async (real) => {
    const clock = new FakeClock()
    const run = { ...real, clock }
    const reason = new Error('cancelled')
    const slow = backup({ slow_ms: 1e9 }, run)
    const hanging = backup({ hang_ms: 60_000 }, run)
    let ended = false
    void hanging.done.catch(() => {
      ended = true
    })
    while (clock.sleeping < 2) await new Promise((resolve) => setImmediate(resolve))
    run.abort(reason)
    expect(await failureOf(slow.done)).toBe(reason)
    await clock.advance(59_999)
    expect(ended).toBe(false)
    await clock.advance(1)
    expect(await failureOf(hanging.done)).toBe(reason)
  }))
