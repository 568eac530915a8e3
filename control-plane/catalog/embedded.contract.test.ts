import { mkdir, mkdtemp, open, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { sql } from 'drizzle-orm'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { copyEmptyCatalog } from '../../test/harness/catalogs.ts'
import { openCatalog } from './open.ts'
import { rowsOf } from './sql.ts'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'holdfast-embedded-'))
})
afterEach(() => rm(folder, { recursive: true, force: true }))

test('an embedded catalog has one process, syncs, and refuses a schema newer than the program', async () => {
  await copyEmptyCatalog(folder)
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

test('a damaged page is found at the start after a kill, before anything rests on it', async () => {
  await copyEmptyCatalog(folder)
  const catalog = await openCatalog({ kind: 'embedded', folder })
  await catalog.db.execute(
    sql`insert into targets (name, kind, config, created_at) select 't' || i, 'local', '{}', now() from generate_series(1, 500) i`,
  )
  await catalog.db.execute(sql`checkpoint`)
  const [row] = await rowsOf<{ file: string }>(catalog.db, sql`select pg_relation_filepath('targets') as file`)
  await catalog.close()
  // as a kill leaves it
  await writeFile(path.join(folder, 'in-use'), '')
  const file = await open(path.join(folder, 'pgdata', row?.file ?? ''), 'r+')
  await file.write(Buffer.from([0xff]), 0, 1, 8192 + 4000)
  await file.close()
  await expect(openCatalog({ kind: 'embedded', folder })).rejects.toMatchObject({ code: 'catalog_damaged' })
})

test('a first start that was cut short is begun again', async () => {
  await mkdir(path.join(folder, 'pgdata.draft', 'base'), { recursive: true })
  await writeFile(path.join(folder, 'pgdata.draft', 'PG_VERSION'), '')
  await (await openCatalog({ kind: 'embedded', folder })).close()
  expect(await readdir(folder)).toEqual(['lock', 'pgdata'])
})

test('a folder that is no catalog is said to be damaged, and left as it is', async () => {
  await mkdir(path.join(folder, 'pgdata'))
  await writeFile(path.join(folder, 'pgdata', 'PG_VERSION'), '3\n')
  await expect(openCatalog({ kind: 'embedded', folder })).rejects.toMatchObject({
    code: 'catalog_damaged',
    hint: expect.stringContaining('--rebuild-catalog'),
  })
  expect(await readFile(path.join(folder, 'pgdata', 'PG_VERSION'), 'utf8')).toBe('3\n')
})
