import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { generateX25519Identity, identityToRecipient } from 'age-encryption'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { FakeClock } from '../../shared/fake-clock.ts'
import { BackupKind, JobCommand, JobOutcome } from '../../shared/generated/holdfast/agent/v1/jobs.ts'
import { newJobId } from '../../shared/ids.ts'
import { createLogger } from '../../shared/log.ts'
import { Secret } from '../../shared/secret.ts'
import { waitFor } from '../../test/harness/wait.ts'
import { Attempt } from './attempt.ts'
import { Journal } from './journal.ts'
import { JobLimits } from './limits.ts'

let folder: string
const at = (...names: string[]) => path.join(folder, ...names)

beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'attempt-'))
  for (const name of ['journal', 'scratch', 'scratch/work', 'known', 'places', 'tree']) await mkdir(at(name))
  await writeFile(at('tree', 'file'), 'content')
})
afterEach(() => rm(folder, { recursive: true, force: true }))

/** A backup that is stuck: nobody answers where its first object may go. */
async function stuck(clock: FakeClock, deadlineSeconds: number) {
  const identity = await generateX25519Identity()
  const recipient = await identityToRecipient(identity)
  const command = JobCommand.fromPartial({
    jobId: newJobId(),
    attempt: 1,
    deadlineSeconds,
    work: {
      $case: 'backup',
      value: {
        backup: { host: 'db1', source: 'tree', id: '20260101T000000Z-0123456789' },
        kind: BackupKind.FULL,
        recipients: [recipient],
      },
    },
  })
  const journal = await Journal.open(at('journal'))
  const key = () => new Secret(Buffer.alloc(32, 1))
  await journal.accept(command, { backup: { dataKey: key(), gearKey: key() } })
  const asked = Promise.withResolvers<void>()
  const signPuts = async (_: unknown, options?: { signal?: AbortSignal }): Promise<never> => {
    asked.resolve()
    return new Promise((_resolve, reject) => options?.signal?.addEventListener('abort', () => reject(new Error('over'))))
  }
  const agent = {
    name: 'db1',
    fleetId: 'f',
    verifyingKey: '',
    ageIdentity: identity,
    ageRecipient: recipient,
    labels: {},
    restoresFrom: [],
    offlineLimitMs: 60_000,
    logLevel: 'silent',
  }
  const attempt = await Attempt.start(
    {
      journal,
      clock,
      log: createLogger({ level: 'silent' }),
      folders: { scratch: at('scratch'), known: at('known'), places: at('places'), compiled: at('compiled') },
      limits: new JobLimits(clock, createLogger({ level: 'silent' })),
      searchPath: process.env.PATH ?? '',
      userHome: folder,
      jobProgram: undefined,
      offlineLimitMs: 60_000,
      objects: { signPuts } as never,
      signFacts: (() => undefined) as never,
      jobSettings: async () => ({ agent, sources: { tree: { engine: 'files', path: at('tree') } } }),
      leaseRemainingMs: () => 600_000,
      send: () => undefined,
    },
    command,
    at('scratch'),
  )
  const early = attempt.ended.then((result) => {
    throw new Error(`it ended before it asked for an address: ${JSON.stringify(result.error)}`)
  })
  await Promise.race([asked.promise, early])
  early.catch(() => undefined)
  return attempt
}

describe('the deadline of an attempt', () => {
  it('is a duration on the monotonic clock: wall time set forward changes nothing, its end ends the attempt', async () => {
    const clock = new FakeClock()
    const attempt = await stuck(clock, 3600)
    const state = { over: false }
    const result = attempt.ended.finally(() => {
      state.over = true
    })
    clock.setWall('2030-01-01T00:00:00Z')
    await clock.advance(3_599_000)
    expect(state.over).toBe(false)
    await clock.advance(1000)
    expect(await result).toMatchObject({
      outcome: JobOutcome.FAILED,
      error: { code: 'deadline_exceeded', message: 'the job took longer than its 3600 s' },
    })
    await waitFor('the process to be gone', () => !alive(attempt.pid))
  })
})

function alive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false
    throw error
  }
}
