import { type FileHandle, open } from 'node:fs/promises'
import { noiseOf } from './noise.ts'

const CITIES = ['Berlin', 'Lisbon', 'Osaka', 'Accra', 'Lima', 'Oslo', 'Tunis', 'Quito', 'Riga', 'Hanoi']
const WORDS =
  'the order was delivered late by courier and returned after a call from our customer about wrong size of item'.split(' ')
const PIECE = 1024 * 1024

/** A text dump of a table of mixed rows, the same bytes for the same seed: zstd -3 makes it about a third. */
export async function writeDump(file: string, bytes: number, seed: number): Promise<void> {
  const noise = noiseOf(seed)
  const handle = await open(file, 'wx')
  try {
    await write(handle, 'COPY public.orders (id, customer, mail, city, amount, at, token, note) FROM stdin;\n')
    let written = 0
    for (let id = 1; written < bytes; ) {
      const rows: string[] = []
      for (let size = 0; size < PIECE; id += 1) {
        const row = rowOf(id, noise(32))
        rows.push(row)
        size += row.length
      }
      const piece = rows.join('')
      await write(handle, piece)
      written += piece.length
    }
    await write(handle, '\\.\n')
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** From 32 bytes of noise. */
export function rowOf(id: number, noise: Buffer): string {
  const customer = noise.readUInt32LE(0) % 200_000
  const amount = (noise.readUInt32LE(4) % 1_000_000) / 100
  const at = new Date(1_700_000_000_000 + id * 7000 + (noise.readUInt16LE(8) % 5000)).toISOString()
  const token = noise.toString('hex', 10, 22)
  const words = 4 + ((noise[22] ?? 0) % 12)
  const note = Array.from({ length: words }, (_, i) => WORDS[((noise[(23 + i) % 32] ?? 0) + i) % WORDS.length]).join(' ')
  const city = CITIES[(noise[31] ?? 0) % CITIES.length]
  return `${id}\tcustomer ${customer}\tc${customer}@example.org\t${city}\t${amount.toFixed(2)}\t${at}\t${token}\t${note}\n`
}

async function write(handle: FileHandle, text: string): Promise<void> {
  await handle.writeFile(text)
}

/** SQL that makes the same kind of rows in a database, about 200 bytes each in a dump. */
export function fillTable(name: string, rows: number, first = 1): string {
  return `
    create table ${name} as
      select id, 'customer ' || (h % 200000) as customer, 'c' || (h % 200000) || '@example.org' as mail,
        (array['${CITIES.join("','")}'])[1 + h % ${CITIES.length}] as city, (h % 1000000) / 100.0 as amount,
        timestamptz '2023-11-14 22:13:20+00' + id * interval '7 s' as at, substr(md5(id::text), 1, 24) as token,
        (select string_agg((array['${WORDS.join("','")}'])[1 + (h / (n * n + 1) + n) % ${WORDS.length}], ' ')
          from generate_series(1, 4 + h % 12) as n) as note
      from (select id, abs(hashint8(id)::bigint) as h from generate_series(${first}, ${first + rows - 1}) as id) as ids;
    alter table ${name} add primary key (id);
    create index on ${name} (customer)`
}
