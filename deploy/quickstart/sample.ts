import { existsSync } from 'node:fs'
import { mkdir, rename, rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { DatabaseSync } from 'node:sqlite'

/** What the quickstart protects: made here, so that nothing else of the machine is backed up. */
export interface Sample {
  readonly notes: string
  readonly config: string
}

const FIRST_ROWS = 12_480

export async function makeSample(folder: string): Promise<Sample> {
  const sample = { notes: path.join(folder, 'notes.db'), config: path.join(folder, 'config') }
  if (!existsSync(sample.notes)) await makeNotes(sample.notes)
  if (!existsSync(sample.config)) await makeConfig(sample.config)
  return sample
}

/** Whole or not at all: a first run that was interrupted starts over. */
async function makeNotes(file: string): Promise<void> {
  const draft = `${file}.draft`
  await mkdir(path.dirname(file), { recursive: true, mode: 0o700 })
  await rm(draft, { force: true })
  const db = new DatabaseSync(draft)
  db.exec(`create table notes (id integer primary key, written text not null, title text not null, body text not null)`)
  db.exec('begin')
  insertNotes(db, 1, FIRST_ROWS)
  db.exec('commit')
  db.close()
  await rename(draft, file)
}

/** Adds notes and returns how many there are then. */
export function addNotes(file: string, count: number): number {
  const db = new DatabaseSync(file, { timeout: 5000 })
  try {
    db.exec('begin immediate')
    const next = (db.prepare('select coalesce(max(id), 0) + 1 as next from notes').get() as { next: number }).next
    insertNotes(db, next, count)
    db.exec('commit')
    return countNotes(db)
  } finally {
    db.close()
  }
}

const countNotes = (db: DatabaseSync): number => (db.prepare('select count(*) as rows from notes').get() as { rows: number }).rows

const WORDS = 'a backup that was never restored is a hope not a plan so restore one today and write down how long it took'.split(
  ' ',
)

function insertNotes(db: DatabaseSync, from: number, count: number): void {
  const insert = db.prepare('insert into notes (id, written, title, body) values (?, ?, ?, ?)')
  for (let id = from; id < from + count; id++) {
    const words = Array.from({ length: 28 }, (_, at) => WORDS[(id * 7 + at * (1 + (id % 5))) % WORDS.length])
    insert.run(id, `2026-01-${String(1 + (id % 28)).padStart(2, '0')}`, `note ${id}`, `${words.join(' ')} (${id * 7919})`)
  }
}

const FILES: Readonly<Record<string, string>> = {
  'app.yaml': 'name: sample\nlisten: 127.0.0.1:8080\nworkers: 4\n',
  'limits.toml': '[limits]\nupload = "10MB"\nrequests_per_minute = 600\n',
  'features.json': '{\n  "search": true,\n  "export": false\n}\n',
  'env/production.env': 'LOG_LEVEL=info\nCACHE_SIZE=256\n',
  'env/staging.env': 'LOG_LEVEL=debug\nCACHE_SIZE=64\n',
  'README.txt': 'A small tree of configuration files that the quickstart protects.\n',
}

async function makeConfig(folder: string): Promise<void> {
  const draft = `${folder}.draft`
  await rm(draft, { recursive: true, force: true })
  for (const [name, content] of Object.entries(FILES)) {
    const file = path.join(draft, name)
    await mkdir(path.dirname(file), { recursive: true })
    await writeFile(file, content)
  }
  await rename(draft, folder)
}
