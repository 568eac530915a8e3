import { mkdir, rm } from 'node:fs/promises'
import { cpus } from 'node:os'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { runCommand } from '../harness/commands.ts'
import { apt, onPath } from '../harness/debian.ts'
import { throwAwayFolder } from '../harness/folders.ts'
import { type PostgresServer, startPostgres } from '../harness/postgres.ts'
import { type Contestant, contestants, type Database, holdfast, type Input } from './contestants.ts'
import { fillTable, writeDump, writeSmallFiles } from './corpora.ts'
import { type Measured, storedBytes, type Usage } from './measure.ts'

// npm run bench: this project beside restic, kopia and borg, each input in one interleaved run: a dump file, many small files, a live database, and
// the dump file restored and compared byte by byte.
// Not part of npm test. As root on Debian it installs borg and zstd, with Go it builds the newest restic and kopia; elsewhere those on PATH take part.

const { values } = parseArgs({
  options: {
    mb: { type: 'string', default: '1000' },
    files: { type: 'string', default: '20000' },
    rounds: { type: 'string', default: '5' },
    seed: { type: 'string', default: '1' },
    // shows that it runs; the figures say nothing
    quick: { type: 'boolean', default: false },
    // only inputs whose name holds this
    only: { type: 'string', default: '' },
  },
})
const [mb, files, rounds] = values.quick ? [20, 200, 1] : [Number(values.mb), Number(values.files), Number(values.rounds)]
const seed = Number(values.seed)

interface Result extends Measured {
  readonly stored: number
}

if (process.getuid?.() === 0 && onPath('apt-get') !== null) {
  process.env.HOLDFAST_TEST_REQUIRE = 'all'
  await apt(['borgbackup', 'zstd'])
}
const present = await contestants((program) => onPath(program) !== null)
console.log(`${cpus().length} processors, ${cpus()[0]?.model.trim()}; ${rounds} rounds, seed ${seed}`)
for (const { name, version } of present) console.log(`  ${name.padEnd(20)} ${await version()}`)

await using folder = await throwAwayFolder()
const INPUTS: Readonly<Record<string, () => Promise<void>>> = {
  file: () => compareFolder('one dump file', (to) => writeDump(path.join(to, 'dump.sql'), mb * 1e6, seed)),
  small: () => compareFolder(`${files} small files`, (to) => writeSmallFiles(to, files, seed)),
  live: compareDatabase,
  restore: compareRestores,
}
for (const [name, run] of Object.entries(INPUTS)) if (name.includes(values.only)) await run()

async function compareFolder(title: string, write: (folder: string) => Promise<void>): Promise<void> {
  const source = path.join(folder.path, 'source')
  await mkdir(source)
  await write(source)
  const size = await storedBytes(source)
  await compare(`${title}, ${megabytes(size)} MB`, size, { folder: source, database: null })
  await rm(source, { recursive: true })
}

/** Backed up once by each, restored by each once a round. */
async function compareRestores(): Promise<void> {
  const source = path.join(folder.path, 'source')
  await mkdir(source)
  const file = path.join(source, 'dump.sql')
  await writeDump(file, mb * 1e6, seed)
  const size = await storedBytes(source)
  const input = { folder: source, database: null }
  const repository = (of: Contestant) => path.join(folder.path, `restored-${present.indexOf(of)}`)
  for (const contestant of present) await contestant.run(input, repository(contestant))
  const stored = new Map<Contestant, number>()
  for (const contestant of present) stored.set(contestant, await storedBytes(repository(contestant)))
  await inTurns(`restore of the dump file, ${megabytes(size)} MB`, size, async (contestant) => {
    const to = path.join(folder.path, 'target')
    const measured = await contestant.restore(input, repository(contestant), to)
    // throws where a byte differs
    await runCommand('cmp', [file, path.join(to, 'dump.sql')])
    await rm(to, { recursive: true })
    return { ...measured, stored: stored.get(contestant) ?? 0 }
  })
  await rm(source, { recursive: true })
}

async function compareDatabase(): Promise<void> {
  const server = await startPostgres(15, { settings: { shared_buffers: '512MB', max_wal_size: '8GB' } })
  if (server === null) return console.log('\nno PostgreSQL could be had: the live database is left out')
  try {
    await server.sql('postgres', 'create database bench')
    await server.sql('bench', fillTable(mb * 5900))
    await server.sql('bench', 'vacuum analyze orders')
    const database = databaseOf(server)
    const counted = await runCommand('/bin/bash', ['-c', '"$PG_DUMP" | wc -c'], {
      env: { ...database.env, PG_DUMP: database.pgDump },
    })
    const size = Number(counted)
    await compare(`a live database, ${megabytes(size)} MB as pg_dump writes it`, size, { folder: '', database })
  } finally {
    await server.stop()
  }
}

function databaseOf(server: PostgresServer): Database {
  const { tools, port, password } = server
  return {
    env: { PGHOST: '127.0.0.1', PGPORT: String(port), PGUSER: 'postgres', PGPASSWORD: password, PGDATABASE: 'bench' },
    pgDump: path.join(tools, 'pg_dump'),
    config: { url: server.url('bench'), password, tools: [tools] },
  }
}

async function compare(title: string, size: number, input: Input): Promise<void> {
  await inTurns(title, size, async (contestant, round) => {
    const repository = path.join(folder.path, `repository-${round}`)
    const measured = await contestant.run(input, repository)
    const stored = await storedBytes(repository)
    for (const left of [repository, `${repository}.base`, `${repository}.json`, `${repository}.opened`])
      await rm(left, { recursive: true, force: true })
    return { ...measured, stored }
  })
}

/** Every contestant once a round, each round beginning with another: what slows the machine down then hits all. */
async function inTurns(
  title: string,
  size: number,
  run: (contestant: Contestant, round: number) => Promise<Result>,
): Promise<void> {
  const results = new Map<Contestant, Result[]>(present.map((contestant) => [contestant, []]))
  for (let round = 0; round < rounds; round += 1) {
    const order = [...present.slice(round % present.length), ...present.slice(0, round % present.length)]
    for (const contestant of order) {
      await runCommand('sync', [])
      results.get(contestant)?.push(await run(contestant, round))
    }
  }
  console.log(`\n${title}`)
  console.log(row('', ['MB/s', 'holdfast is', 'CPU s/GB', 'peak MB', 'stored MB', 'ratio']))
  const own = results.get(holdfast) ?? []
  for (const [contestant, all] of results) {
    console.log(row(contestant.name, columns(all, own, size)))
    if (contestant === holdfast)
      console.log(
        row('  without the server', [
          '',
          '',
          ...usage(
            all.map(({ alone }) => alone),
            size,
          ),
        ]),
      )
  }
}

function columns(all: readonly Result[], own: readonly Result[], size: number): string[] {
  const stored = all[0]?.stored ?? 0
  const speeds = all.map(({ seconds }) => size / 1e6 / seconds)
  // of the same round: what slows the machine down then slows both
  const ratios = all.map(({ seconds }, round) => seconds / (own[round]?.seconds ?? Number.NaN))
  return [
    medianOf(speeds, 0),
    `${medianOf(ratios, 2)}x`,
    ...usage(all, size),
    megabytes(stored),
    `${(size / stored).toFixed(2)}x`,
  ]
}

function usage(all: readonly Usage[], size: number): string[] {
  const times = all.map(({ cpuSeconds }) => cpuSeconds / (size / 1e9))
  const peaks = all.map(({ peakBytes }) => peakBytes / 1e6)
  return [medianOf(times, 1), medianOf(peaks, 0)]
}

/** With the least and the most. */
function medianOf(figures: readonly number[], digits: number): string {
  const sorted = figures.toSorted((a, b) => a - b)
  const [least, middle, most] = [sorted[0] ?? 0, sorted[Math.floor(sorted.length / 2)] ?? 0, sorted.at(-1) ?? 0]
  const range = sorted.length > 1 ? ` (${least.toFixed(digits)}-${most.toFixed(digits)})` : ''
  return `${middle.toFixed(digits)}${range}`
}

function row(name: string, cells: readonly string[]): string {
  return `  ${name.padEnd(20)}${cells.map((cell) => cell.padStart(20)).join('')}`
}

function megabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(0)
}
