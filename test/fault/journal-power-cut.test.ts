import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import { expect, test } from 'vitest'
import { Journal } from '../../agent/jobs/journal.ts'
import { storedPacks } from '../../agent/jobs/stored-packs.ts'
import { JobCommand } from '../../shared/generated/holdfast/agent/v1/jobs.ts'
import { newJobId } from '../../shared/ids.ts'
import { Secret } from '../../shared/secret.ts'
import { fragileDisk } from '../harness/power-cut.ts'

/** The power of a host goes while a backup is under way: what its target has confirmed is not sent again. */

test('the journal knows every confirmed pack after a power cut, the very first and the very last one too', async (context) => {
  const disk = await fragileDisk()
  if (!disk) return context.skip('mounting a file system needs root')
  context.onTestFinished(() => disk.stop())
  const jobId = newJobId()
  const accept = (journal: Journal, attempt: number) =>
    journal.accept(JobCommand.fromPartial({ jobId, attempt, work: { $case: 'backup', value: { dryRun: false } } }), {
      backup: { dataKey: new Secret(Buffer.alloc(32, attempt)), gearKey: new Secret(Buffer.alloc(32, 9)) },
    })
  const pack = (name: string) => ({ name, size: 3, sha256: Buffer.alloc(32, 1), chunks: Buffer.alloc(10_000, 1) })
  const stored: string[] = []
  for (const [attempt, names] of [['a'], ['b', 'c', 'd']].entries()) {
    const journal = await Journal.open(disk.path)
    await accept(journal, attempt + 1)
    for (const name of names) {
      await journal.packStored(jobId, attempt + 1, pack(`packs/${attempt + 1}-${name}`))
      stored.push(`packs/${attempt + 1}-${name}`)
    }
    await writeFile(path.join(disk.path, 'never-synced'), 'x')
    disk.cut()
    await disk.comeBack()
  }
  const after = await Journal.open(disk.path)
  await accept(after, 3)
  const known: string[] = []
  for (const { attempt } of after.earlier(jobId)) {
    for await (const { name } of storedPacks(after.packsFile(jobId), attempt)) known.push(name)
  }
  expect(known).toEqual(stored)
})
