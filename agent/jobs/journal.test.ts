import { appendFile, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { JobCommand, JobOutcome, JobResult } from '../../shared/generated/holdfast/agent/v1/jobs.ts'
import { newJobId } from '../../shared/ids.ts'
import { Secret } from '../../shared/secret.ts'
import { Journal } from './journal.ts'
import { storedPacks } from './stored-packs.ts'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'journal-'))
})
afterEach(() => rm(folder, { recursive: true, force: true }))

const jobId = newJobId()
const command = (attempt: number): JobCommand =>
  JobCommand.fromPartial({ jobId, attempt, work: { $case: 'backup', value: { dryRun: false } } })
const keys = (byte: number) => ({
  backup: { dataKey: new Secret(Buffer.alloc(32, byte)), gearKey: new Secret(Buffer.alloc(32, byte + 100)) },
})
const result = (attempt: number) => JobResult.fromPartial({ jobId, attempt, outcome: JobOutcome.FAILED })
const pack = (name: string) => ({ name, size: 3, sha256: Buffer.alloc(32, 1), chunks: Buffer.from([1, 2, 3]) })

/** Of the packs of each earlier attempt. */
const names = (journal: Journal): Promise<string[][]> =>
  Promise.all(
    journal.earlier(jobId).map(async ({ attempt }) => {
      const packs = await Array.fromAsync(storedPacks(journal.packsFile(jobId), attempt))
      return packs.map(({ name }) => name)
    }),
  )

describe('the journal', () => {
  it('has a command on the disk, readable by its owner alone, before it is acknowledged', async () => {
    const journal = await Journal.open(folder)
    await journal.accept(command(1), keys(1))
    const file = path.join(folder, `${jobId}.json`)
    expect((await stat(file)).mode & 0o777).toBe(0o600)
    const again = await Journal.open(folder)
    expect(again.get(jobId)).toMatchObject({ attempt: 1, state: 'accepted', command: { jobId, attempt: 1 } })
  })

  it('keeps a result until it is confirmed', async () => {
    const journal = await Journal.open(folder)
    await journal.accept(command(1))
    await journal.finished(result(1))
    expect((await Journal.open(folder)).get(jobId)?.result).toMatchObject({ jobId, outcome: JobOutcome.FAILED })
    await journal.confirmed(jobId, 1, true)
    expect(await readdir(folder)).toEqual([])
  })

  it('ignores a confirmation of another attempt', async () => {
    const journal = await Journal.open(folder)
    await journal.accept(command(2))
    await journal.finished(result(2))
    await journal.confirmed(jobId, 1, true)
    expect(journal.get(jobId)?.state).toBe('finished')
  })

  it('does not forget a job that is confirmed before its own result is known', async () => {
    const journal = await Journal.open(folder)
    await journal.accept(command(1), keys(1))
    await journal.running(jobId)
    await journal.confirmed(jobId, 1, true)
    await journal.finished(result(1))
    expect(journal.get(jobId)?.state).toBe('finished')
  })

  it('gives a further attempt the keys and packs of the earlier ones, and its own key anew', async () => {
    const journal = await Journal.open(folder)
    await journal.accept(command(1), keys(1))
    await journal.packStored(jobId, 1, pack('packs/1-a'))
    await journal.finished(result(1))
    await journal.confirmed(jobId, 1, false)
    await journal.accept(command(2), keys(2))
    await journal.packStored(jobId, 2, pack('packs/2-a'))

    const again = await Journal.open(folder)
    expect(again.keys(jobId).dataKey.reveal()).toEqual(Buffer.alloc(32, 2))
    expect(again.keys(jobId).gearKey.reveal()).toEqual(Buffer.alloc(32, 101))
    const earlier = again.earlier(jobId)
    expect(earlier).toHaveLength(1)
    expect(earlier[0]?.dataKey.reveal()).toEqual(Buffer.alloc(32, 1))
    expect(await Array.fromAsync(storedPacks(again.packsFile(jobId), 1))).toEqual([pack('packs/1-a')])
  })

  it('keeps the key of a job that has to be unlocked for its further attempts, and forgets it when the job is over', async () => {
    const restore = (attempt: number) =>
      JobCommand.fromPartial({ jobId, attempt, needsUnlock: true, work: { $case: 'restore', value: {} } })
    const journal = await Journal.open(folder)
    await journal.accept(restore(1), { jobKey: new Secret('AGE-SECRET-KEY-1FIRST') })
    expect((await stat(path.join(folder, `${jobId}.json`))).mode & 0o777).toBe(0o600)
    await journal.finished(result(1))
    await journal.confirmed(jobId, 1, false)
    const again = await Journal.open(folder)
    await again.accept(restore(2), { jobKey: new Secret('AGE-SECRET-KEY-1SECOND') })
    expect(again.jobKey(jobId)?.reveal()).toBe('AGE-SECRET-KEY-1FIRST')
    expect(JSON.stringify(again.get(jobId))).not.toContain('FIRST')
    await again.finished(result(2))
    await again.confirmed(jobId, 2, true)
    expect(await readdir(folder)).toEqual([])
    await again.accept(command(1))
    expect(again.jobKey(jobId)).toBeNull()
  })

  it('leaves out a line that was torn by a crash', async () => {
    const journal = await Journal.open(folder)
    await journal.accept(command(1), keys(1))
    await journal.packStored(jobId, 1, pack('packs/1-a'))
    await appendFile(path.join(folder, `${jobId}.packs`), '{"attempt":1,"name":"packs/1-b","si')
    await journal.accept(command(2), keys(2))
    expect(await names(journal)).toEqual([['packs/1-a']])
  })

  it('knows the packs of an attempt after the one in which a line was torn', async () => {
    const journal = await Journal.open(folder)
    await journal.accept(command(1), keys(1))
    await journal.packStored(jobId, 1, pack('packs/1-a'))
    await appendFile(path.join(folder, `${jobId}.packs`), '{"attempt":1,"name":"packs/1-b","si')
    await journal.accept(command(2), keys(2))
    await journal.packStored(jobId, 2, pack('packs/2-a'))
    await journal.packStored(jobId, 2, pack('packs/2-b'))
    await journal.accept(command(3), keys(3))
    expect(await names(journal)).toEqual([['packs/1-a'], ['packs/2-a', 'packs/2-b']])
  })

  it('forgets the packs of a store that has lost what it confirmed, and takes new ones', async () => {
    const journal = await Journal.open(folder)
    await journal.accept(command(1), keys(1))
    await journal.packStored(jobId, 1, pack('packs/1-a'))
    await journal.forgetPacks(jobId)
    await journal.accept(command(2), keys(2))
    await journal.packStored(jobId, 2, pack('packs/2-a'))
    await journal.accept(command(3), keys(3))
    expect(await names(journal)).toEqual([[], ['packs/2-a']])
  })

  it('refuses to start over a damaged file, naming it', async () => {
    await writeFile(path.join(folder, `${jobId}.json`), '{"job_id":')
    await expect(Journal.open(folder)).rejects.toThrow(`${jobId}.json is damaged`)
  })

  it('takes no job id that could leave its folder', async () => {
    const journal = await Journal.open(folder)
    await expect(journal.accept({ ...command(1), jobId: '../../etc/cron.d/x' })).rejects.toThrow('is not allowed')
  })

  it('prints no key', async () => {
    const journal = await Journal.open(folder)
    await journal.accept(command(1), keys(1))
    expect(JSON.stringify(journal.keys(jobId))).not.toContain(Buffer.alloc(32, 1).toString('base64'))
    expect(await readFile(path.join(folder, `${jobId}.json`), 'utf8')).toContain(Buffer.alloc(32, 1).toString('base64'))
  })
})
