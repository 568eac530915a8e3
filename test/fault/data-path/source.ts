import { createCipheriv, createHash } from 'node:crypto'
import { existsSync, lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { appendFile, cp, mkdir, rm, symlink, truncate, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import type { Inventory } from './rules.ts'
import type { Schedule } from './schedule.ts'

/** What is backed up by one seed. */
export interface Source {
  readonly engine: 'files' | 'sqlite'
  readonly path: string
  change(): Promise<void>
  /** What is there, by name; null where nothing is. Of a database its rows are what counts, of a tree every byte, mode and time. */
  inventory(place: string): Inventory | null
}

const PACK = 16 * 2 ** 20

export async function makeSource(schedule: Schedule, folder: string, random: () => number): Promise<Source> {
  await mkdir(folder, { recursive: true })
  return schedule.source === 'database' ? makeDatabase(folder, random) : makeTree(schedule, folder, random)
}

async function makeTree({ source, packs }: Schedule, folder: string, random: () => number): Promise<Source> {
  const place = path.join(folder, 'tree')
  // a file of several packs is restored in another way than small ones
  const files = source === 'many files' ? 300 : source === 'small tree' ? 6 : packs === 4 ? 1 : 8
  const bytes = source === 'tree' ? packs * PACK * 0.9 : source === 'small tree' ? 900_000 : 600_000
  const write = async (from: number, count: number) => {
    for (let n = from; n < from + count; n++) {
      const sub = path.join(place, n % 3 ? `sub-${n % 3}` : '.')
      await mkdir(sub, { recursive: true })
      await writeFile(path.join(sub, `file-${n}`), content(random, Math.ceil((bytes / files) * (0.5 + random()))))
    }
  }
  await write(0, files)
  await symlink('file-0', path.join(place, 'link'))
  await writeFile(path.join(place, 'empty'), '')
  return {
    engine: 'files',
    path: place,
    change: async () => {
      const first = Math.floor(random() * files)
      await write(first, Math.max(1, Math.floor(files / 10)))
      await rm(path.join(place, first % 3 === 0 ? 'sub-1/file-1' : 'file-0'), { force: true })
      await write(files + first, 1)
    },
    inventory: inventoryOf,
  }
}

/** A tree that is much like the source: most files as they are there, others changed, cut, grown, replaced by a link, gone or of nobody's. */
export async function layAlike(source: Source, place: string, random: () => number): Promise<Inventory> {
  await cp(source.path, place, { recursive: true, preserveTimestamps: true, verbatimSymlinks: true })
  await writeFile(path.join(place, 'of nobody'), 'x')
  for (const name of readdirSync(place, { recursive: true }) as string[]) {
    const file = path.join(place, name)
    if (!lstatSync(file).isFile() || random() < 0.6) continue
    const { size } = lstatSync(file)
    const at = Math.floor(random() * size)
    const what = Math.floor(random() * 5)
    if (what === 0) await writeFile(file, 'changed', { flag: 'r+' })
    else if (what === 1) await truncate(file, at)
    else if (what === 2) await appendFile(file, content(random, 10_000))
    else await rm(file)
    if (what === 3) await symlink(source.path, file)
  }
  return source.inventory(place) ?? new Map()
}

/** Half of it compresses. */
function content(random: () => number, length: number): Buffer {
  const key = Buffer.alloc(16)
  key.writeUInt32LE(random() * 2 ** 32)
  key.writeUInt32LE(random() * 2 ** 32, 4)
  const bytes = createCipheriv('aes-128-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(length))
  if (key[0] !== undefined && key[0] % 2 && length < PACK / 4) return Buffer.from(bytes.toString('hex').slice(0, length))
  return bytes
}

function inventoryOf(place: string): Inventory | null {
  if (!existsSync(place)) return null
  const found = new Map<string, string>()
  for (const name of ['', ...(readdirSync(place, { recursive: true }) as string[]).sort()]) {
    const file = path.join(place, name)
    const stat = lstatSync(file)
    const kind = stat.isDirectory() ? 'folder' : stat.isSymbolicLink() ? 'link' : 'file'
    const of = kind === 'file' ? hashOf(readFileSync(file)) : kind === 'link' ? readlinkSync(file) : ''
    found.set(name, JSON.stringify([kind, stat.mode, stat.mtimeMs, stat.uid, of]))
  }
  return found
}

const hashOf = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex')

async function makeDatabase(folder: string, random: () => number): Promise<Source> {
  const place = path.join(folder, 'notes.db')
  const write = async (count: number) => {
    const db = new DatabaseSync(place)
    db.exec('pragma journal_mode = wal; create table if not exists notes (id integer primary key, body blob); begin')
    const insert = db.prepare('insert or replace into notes values (?, ?)')
    for (let n = 0; n < count; n++) insert.run(Math.floor(random() * 1000), content(random, 2000))
    db.exec('commit')
    db.close()
  }
  await write(400)
  return { engine: 'sqlite', path: place, change: () => write(60), inventory: rowsOf }
}

function rowsOf(place: string): Inventory | null {
  if (!existsSync(place)) return null
  const db = new DatabaseSync(place, { readOnly: true })
  try {
    const rows = db.prepare('select id, body from notes').all()
    const whole = db.prepare('pragma integrity_check').get()?.integrity_check
    const found = new Map(rows.map(({ id, body }) => [String(id), hashOf(Buffer.from(body as Uint8Array))]))
    return found.set('integrity', String(whole))
  } finally {
    db.close()
  }
}
