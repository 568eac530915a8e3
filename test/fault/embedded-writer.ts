import { sql } from 'drizzle-orm'
import { openCatalog } from '../../control-plane/catalog/open.ts'

/** Opens the catalog in the folder given and commits numbered rows for ever, printing each number once it is acknowledged. */
const catalog = await openCatalog({ kind: 'embedded', folder: process.argv[2] ?? '' })
await catalog.db.execute(sql`create table if not exists written (n integer primary key, filler text)`)
const result = (await catalog.db.execute(sql`select coalesce(max(n), 0)::int as n from written`)) as unknown as {
  rows: { n: number }[]
}
let next = (result.rows[0]?.n ?? 0) + 1
process.stdout.write('open\n')
for (;;) {
  const n = next++
  await catalog.transaction(async (tx) => {
    await tx.execute(sql`insert into written values (${n}, repeat('x', 2000))`)
    // pages are changed again, so that a torn one would show
    await tx.execute(sql`update written set filler = repeat('y', 2000) where n = ${n - 5}`)
  })
  process.stdout.write(`${n}\n`)
}
