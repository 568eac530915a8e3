import { expect, test } from 'vitest'
import { z } from 'zod'
import { type MemoryBackup, memorySource } from '../testing/memory.ts'
import { failureOf } from '../testing/plans.ts'
import { artifact, readLayout } from './artifacts.ts'

function backupWith(database: string) {
  const bytes = Buffer.from(database)
  const streams: MemoryBackup['streams'] = new Map(
    (['database', 'definitions'] as const).map((kind) => [kind, { meta: artifact(kind), bytes }]),
  )
  return memorySource({ streams, trees: new Map() }, { counts: {}, facts: {} })
}

test('a description of a database that is not believed says why: no JSON, or JSON of another shape', async () => {
  const cut = await failureOf(readLayout(backupWith('{"server_version":')))
  expect(cut).toMatchObject({ code: 'backup_invalid', message: 'the backup does not describe its database' })
  expect(cut.cause).toBeInstanceOf(SyntaxError)
  const other = await failureOf(readLayout(backupWith('{"server_version":7}')))
  expect(other.code).toBe('backup_invalid')
  expect(other.cause).toBeInstanceOf(z.ZodError)
})
