import { mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { sql } from 'drizzle-orm'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openCatalog } from './open.ts'
import { rowsOf } from './sql.ts'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'holdfast-embedded-'))
})
afterEach(() => rm(folder, { recursive: true, force: true }))

test('an embedded catalog has one process, syncs, and refuses a schema newer than the program', async () => {
  const first = await openCatalog({ kind: 'embedded', folder })
  await expect(openCatalog({ kind: 'embedded', folder })).rejects.toMatchObject({ code: 'catalog_locked' })
  const settings = await rowsOf<{ name: string; setting: string }>(
    first.db,
    sql`select name, setting from pg_settings where name in ('fsync', 'synchronous_commit', 'full_page_writes', 'data_checksums')`,
  )
  expect(Object.fromEntries(settings.map((row) => [row.name, row.setting]))).toEqual({
    data_checksums: 'on',
    fsync: 'on',
    full_page_writes: 'on',
    synchronous_commit: 'on',
  })
  expect((await stat(folder)).mode & 0o077).toBe(0)
  await first.db.execute(
    sql`insert into holdfast_schema.migrations (hash, number) select 'of the future', count(*) from holdfast_schema.migrations`,
  )
  await first.close()
  await expect(openCatalog({ kind: 'embedded', folder })).rejects.toMatchObject({ code: 'catalog_newer' })
  // the lock was given back
  await expect(openCatalog({ kind: 'embedded', folder })).rejects.toMatchObject({ code: 'catalog_newer' })
})
