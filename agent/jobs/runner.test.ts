import { type FileHandle, mkdtemp, open, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { systemClock } from '../../shared/clock.ts'
import { HoldfastError } from '../../shared/errors.ts'
import { JobCommand } from '../../shared/generated/holdfast/agent/v1/jobs.ts'
import type { ConnectRequest } from '../../shared/generated/holdfast/agent/v1/session.ts'
import { newJobId } from '../../shared/ids.ts'
import { createLogger } from '../../shared/log.ts'
import { waitFor } from '../../test/harness/wait.ts'
import { Journal } from './journal.ts'
import { JobLimits } from './limits.ts'
import { Runner } from './runner.ts'

let folder: string
let journal: Journal
/** What the control plane hears, and how many files and folders were synced by then. */
let heard: Array<{ message: ConnectRequest['message']; synced: number }>
let synced = 0
let starts = 0

beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'runner-'))
  heard = []
  synced = 0
  starts = 0
  const handle = await open(folder, 'r')
  const handles = Object.getPrototypeOf(handle) as FileHandle
  await handle.close()
  const { sync } = handles
  vi.spyOn(handles, 'sync').mockImplementation(async function (this: FileHandle) {
    await sync.call(this)
    synced += 1
  })
  journal = await Journal.open(folder)
})

afterEach(async () => {
  vi.restoreAllMocks()
  await rm(folder, { recursive: true })
})

/** Its jobs end at once, for want of a configuration: `starts` counts the runs. */
const runner = (of: Journal, error: (...said: unknown[]) => void = () => undefined) =>
  new Runner({
    journal: of,
    clock: systemClock,
    log: Object.assign(createLogger({ level: 'silent' }), { error }),
    folders: { scratch: path.join(folder, 'scratch'), known: folder, places: folder, compiled: folder },
    limits: new JobLimits(systemClock, createLogger({ level: 'silent' })),
    searchPath: '',
    userHome: folder,
    jobProgram: undefined,
    offlineLimitMs: 1000,
    objects: {} as never,
    signFacts: (() => undefined) as never,
    jobSettings: async () => {
      starts += 1
      throw new HoldfastError('invalid_config', 'agent.yaml cannot be read')
    },
    leaseRemainingMs: () => 60_000,
    send: ({ message }) => void heard.push({ message, synced }),
  })

const jobId = newJobId()
const command = (attempt: number) => JobCommand.fromPartial({ jobId, attempt, work: { $case: 'backup', value: {} } })
const cases = () => heard.map(({ message }) => message?.$case)
const done = (results: number) =>
  waitFor('the result', () => cases().filter((name) => name === 'jobResult').length === results || undefined)

describe('a command', () => {
  it('is acknowledged only when the journal has it, file and folder synced', async () => {
    await runner(journal).command(command(1))
    expect(heard[0]).toMatchObject({ message: { $case: 'jobAccepted', value: { jobId, attempt: 1 } } })
    expect(heard[0]?.synced).toBeGreaterThanOrEqual(2)
    await done(1)
  })

  it('that is repeated is answered with what is known, and never run a second time', async () => {
    const first = runner(journal)
    await first.command(command(1))
    await done(1)
    await first.command(command(1))
    // also by an agent that was started anew
    await runner(await Journal.open(folder)).command(command(1))
    expect(cases()).toEqual(['jobAccepted', 'jobResult', 'jobResult', 'jobResult'])
    expect(heard.at(-1)?.message).toMatchObject({ value: { jobId, attempt: 1, error: { code: 'invalid_config' } } })
    expect(starts).toBe(1)
  })

  it('of an earlier attempt than the one that is known is refused', async () => {
    const one = runner(journal)
    await one.command(command(2))
    await done(1)
    await one.command(command(1))
    expect(heard.at(-1)?.message).toMatchObject({ $case: 'jobRefused', value: { attempt: 1, error: { code: 'attempt_fenced' } } })
    expect(starts).toBe(1)
  })

  it('that waits for an earlier attempt to end is never begun once its stream has ended: hello does not name it', async () => {
    const gate = Promise.withResolvers<void>()
    const keep = journal.finished.bind(journal)
    vi.spyOn(journal, 'finished').mockImplementationOnce((result) => gate.promise.then(() => keep(result)))
    const one = runner(journal)
    await one.command(command(1))
    await waitFor('the first to end', () => starts === 1)
    await one.command(command(2))
    one.disconnected()
    const hello = await one.journalEntries()
    expect(hello).toMatchObject([{ jobId, attempt: 1 }])
    gate.resolve()
    await done(1)
    await one.command(command(3))
    await done(2)
    expect(heard.filter(({ message }) => message?.$case === 'jobAccepted').map(({ message }) => message?.value)).toMatchObject([
      { attempt: 1 },
      { attempt: 3 },
    ])
    expect(starts).toBe(2)
  })
})

it('a job that was left over is ended once its folder can be used, on a disk that failed for a while', async () => {
  await journal.accept(command(1))
  await journal.running(jobId)
  const broken = path.join(folder, 'scratch')
  await writeFile(broken, '')
  const told = vi.fn()
  await runner(await Journal.open(folder), told).recover()
  await waitFor('it to have failed', () => told.mock.calls.some(([, message]) => /could not be ended yet/.test(String(message))))
  expect(cases()).toEqual([])
  await rm(broken)
  await done(1)
  expect(heard.at(-1)?.message).toMatchObject({ value: { jobId, attempt: 1, error: { code: 'agent_crashed' } } })
})

describe('on a full disk', () => {
  const full = () => Promise.reject(Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' }))

  it('a command that cannot be kept is refused with what is full, and to be tried again', async () => {
    vi.spyOn(journal, 'accept').mockImplementation(full)
    await runner(journal).command(command(1))
    expect(heard.at(-1)?.message).toMatchObject({
      $case: 'jobRefused',
      value: { error: { code: 'disk_full', message: expect.stringContaining(folder), retryable: true } },
    })
  })

  it('a result that cannot be kept is told all the same, and kept when there is room', async () => {
    vi.spyOn(journal, 'finished').mockImplementationOnce(full)
    await runner(journal).command(command(1))
    await done(1)
    expect(journal.get(jobId)?.state).not.toBe('finished')
    await waitFor('the result to be kept', () => journal.get(jobId)?.state === 'finished')
  })
})
