import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { catalogsUnderTest, type TestCatalog } from '../../test/harness/catalogs.ts'
import { rowsOf } from './sql.ts'

const catalogs = await catalogsUnderTest()

describe.each(catalogs)('catalog, $kind', ({ open }) => {
  let under: TestCatalog
  beforeAll(async () => {
    under = await open()
    await under.catalog.db.execute(sql`create table if not exists scratch (i integer primary key)`)
  })
  afterAll(() => under.dispose())

  test('a transaction that throws leaves nothing', async () => {
    const { catalog } = under
    await expect(
      catalog.transaction(async (tx) => {
        await tx.execute(sql`insert into scratch values (1)`)
        throw new Error('stop')
      }),
    ).rejects.toThrow('stop')
    expect(await rowsOf(catalog.db, sql`select i from scratch where i = 1`)).toEqual([])
  })

  test('a store given a transaction can open an inner one, whose failure leaves the outer whole', async () => {
    const { catalog } = under
    await catalog.transaction(async (tx) => {
      await tx.execute(sql`insert into scratch values (2)`)
      await tx.transaction((inner) => inner.execute(sql`insert into scratch values (2)`)).catch(() => undefined)
      await tx.execute(sql`insert into scratch values (3)`)
    })
    expect(await rowsOf(catalog.db, sql`select i from scratch where i in (2, 3) order by i`)).toEqual([{ i: 2 }, { i: 3 }])
  })

  test('a unique key that exists is a conflict', async () => {
    const { catalog } = under
    const insert = () => catalog.transaction((tx) => tx.execute(sql`insert into scratch values (4)`))
    await insert()
    await expect(insert()).rejects.toMatchObject({ code: 'conflict' })
  })

  test('a notification wakes a listener until it stops listening', async () => {
    const { catalog } = under
    const heard: string[] = []
    let wake = (_: string): void => undefined
    const next = () => new Promise<string>((resolve) => (wake = resolve))
    const stop = await catalog.listen('test_wake', (payload) => {
      heard.push(payload)
      wake(payload)
    })
    const first = next()
    await catalog.notify('test_wake', 'one')
    expect(await first).toBe('one')
    await stop()
    const other = await catalog.listen('test_other', (payload) => wake(payload))
    const second = next()
    await catalog.notify('test_wake', 'two')
    await catalog.notify('test_other', 'three')
    expect(await second).toBe('three')
    expect(heard).toEqual(['one'])
    await other()
  })

  test('a channel name that is not an identifier is refused', async () => {
    await expect(under.catalog.notify('a"; drop table jobs', '')).rejects.toMatchObject({ code: 'internal' })
  })
})
