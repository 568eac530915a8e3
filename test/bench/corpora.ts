import { type Cipheriv, createCipheriv } from 'node:crypto'
import { type FileHandle, mkdir, open, writeFile } from 'node:fs/promises'
import path from 'node:path'

const CITIES = ['Berlin', 'Lisbon', 'Osaka', 'Accra', 'Lima', 'Oslo', 'Tunis', 'Quito', 'Riga', 'Hanoi']
const WORDS =
  'the order was delivered late by courier and returned after a call from our customer about wrong size of item'.split(' ')
const PIECE = 1024 * 1024

/** A text dump of a table of mixed rows, the same bytes for the same seed: zstd -3 makes it about a third. */
export async function writeDump(file: string, bytes: number, seed: number): Promise<void> {
  const key = Buffer.alloc(16)
  key.writeUInt32LE(seed)
  const noise = createCipheriv('aes-128-ctr', key, Buffer.alloc(16))
  const handle = await open(file, 'wx')
  try {
    await write(handle, 'COPY public.orders (id, customer, mail, city, amount, at, token, note) FROM stdin;\n')
    let written = 0
    for (let id = 1; written < bytes; ) {
      const rows: string[] = []
      for (let size = 0; size < PIECE; id += 1) {
        const row = rowOf(id, noise.update(Buffer.alloc(32)))
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

function rowOf(id: number, noise: Buffer): string {
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
export function fillTable(rows: number): string {
  return `
    create table orders as
      select id, 'customer ' || (h % 200000) as customer, 'c' || (h % 200000) || '@example.org' as mail,
        (array['${CITIES.join("','")}'])[1 + h % ${CITIES.length}] as city, (h % 1000000) / 100.0 as amount,
        timestamptz '2023-11-14 22:13:20+00' + id * interval '7 s' as at, substr(md5(id::text), 1, 24) as token,
        (select string_agg((array['${WORDS.join("','")}'])[1 + (h / (n * n + 1) + n) % ${WORDS.length}], ' ')
          from generate_series(1, 4 + h % 12) as n) as note
      from (select id, abs(hashint8(id)::bigint) as h from generate_series(1, ${rows}) as id) as ids;
    alter table orders add primary key (id);
    create index on orders (customer)`
}

const IN_A_FOLDER = 200

/** Files of 100 bytes to 60 KB, most of them small, a third of them noise and the rest text; the same for the same seed. */
export async function writeSmallFiles(folder: string, count: number, seed: number): Promise<void> {
  const key = Buffer.alloc(16)
  key.writeUInt32LE(seed, 4)
  const noise = createCipheriv('aes-128-ctr', key, Buffer.alloc(16))
  for (let n = 0; n < count; n++) {
    const below = path.join(folder, String(Math.floor(n / IN_A_FOLDER)))
    if (n % IN_A_FOLDER === 0) await mkdir(below)
    const draw = noise.update(Buffer.alloc(32))
    // the square makes small ones frequent
    const size = 100 + Math.floor((draw.readUInt16LE(24) / 65_536) ** 2 * 60_000)
    await writeFile(path.join(below, `${n}`), n % 3 === 0 ? noise.update(Buffer.alloc(size)) : textOf(size, n, noise))
  }
}

function textOf(size: number, id: number, noise: Cipheriv): Buffer {
  const rows: string[] = []
  for (let length = 0; length < size; length += rows.at(-1)?.length ?? 0)
    rows.push(rowOf(id + rows.length, noise.update(Buffer.alloc(32))))
  return Buffer.from(rows.join('')).subarray(0, size)
}
