import { mkdir, rm, stat } from 'node:fs/promises'
import { cpus } from 'node:os'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { runCommand } from '../harness/commands.ts'
import { apt, onPath } from '../harness/debian.ts'
import { throwAwayFolder } from '../harness/folders.ts'
import { type PostgresServer, startPostgres } from '../harness/postgres.ts'
import { CONTESTANTS, type Contestant, type Database, type Input } from './contestants.ts'
import { fillTable, writeDump } from './dump-file.ts'
import { type Measured, storedBytes } from './measure.ts'

// npm run bench: this project beside restic and borg, with one dump file and with one live database, each in one interleaved run.
// Not part of npm test. As root on Debian it installs the peers; elsewhere those on PATH take part.

const { values } = parseArgs({
  options: {
    mb: { type: 'string', default: '1000' },
    rounds: { type: 'string', default: '3' },
    seed: { type: 'string', default: '1' },
  },
})
const [mb, rounds, seed] = [Number(values.mb), Number(values.rounds), Number(values.seed)]

interface Result extends Measured {
  readonly stored: number
}

if (process.getuid?.() === 0 && onPath('apt-get') !== null) {
  process.env.HOLDFAST_TEST_REQUIRE = 'all'
  await apt(['restic', 'borgbackup', 'zstd'])
}
const present = CONTESTANTS.filter(({ name }) => name === 'holdfast' || onPath(name.split(' ')[0] ?? '') !== null)
console.log(`${cpus().length} processors, ${cpus()[0]?.model.trim()}; ${rounds} rounds, seed ${seed}`)
for (const { name, version } of present) console.log(`  ${name.padEnd(20)} ${await version()}`)

await using folder = await throwAwayFolder()
await compareFile()
await compareDatabase()

async function compareFile(): Promise<void> {
  await mkdir(path.join(folder.path, 'source'))
  const file = path.join(folder.path, 'source', 'dump.sql')
  await writeDump(file, mb * 1e6, seed)
  const { size } = await stat(file)
  await compare(`one dump file of ${megabytes(size)} MB`, size, { file, database: null }, false)
  await rm(file)
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
    await compare(`a live database, ${megabytes(size)} MB as pg_dump writes it`, size, { file: '', database }, true)
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

/** Every contestant once a round, each round beginning with another: what slows the machine down then hits all. */
async function compare(title: string, size: number, input: Input, live: boolean): Promise<void> {
  const results = new Map<Contestant, Result[]>(present.map((contestant) => [contestant, []]))
  for (let round = 0; round < rounds; round += 1) {
    const order = [...present.slice(round % present.length), ...present.slice(0, round % present.length)]
    for (const contestant of order) {
      const repository = path.join(folder.path, `repository-${round}`)
      await runCommand('sync', [])
      const measured = await contestant.run(input, repository, live)
      results.get(contestant)?.push({ ...measured, stored: await storedBytes(repository) })
      for (const left of [repository, `${repository}.base`, `${repository}.json`])
        await rm(left, { recursive: true, force: true })
    }
  }
  console.log(`\n${title}`)
  console.log(row('', ['MB/s', 'CPU s/GB', 'peak MB', 'stored MB', 'ratio']))
  for (const [{ name }, all] of results) console.log(row(name, columns(all, size)))
}

function columns(all: readonly Result[], size: number): string[] {
  const of = (figure: (result: Result) => number, digits: number) => {
    const sorted = all.map(figure).sort((a, b) => a - b)
    const [least, middle, most] = [sorted[0] ?? 0, sorted[Math.floor(sorted.length / 2)] ?? 0, sorted.at(-1) ?? 0]
    const range = sorted.length > 1 ? ` (${least.toFixed(digits)}-${most.toFixed(digits)})` : ''
    return `${middle.toFixed(digits)}${range}`
  }
  const stored = all[0]?.stored ?? 0
  return [
    of((result) => size / 1e6 / result.seconds, 0),
    of((result) => result.cpuSeconds / (size / 1e9), 1),
    of((result) => result.peakBytes / 1e6, 0),
    megabytes(stored),
    `${(size / stored).toFixed(2)}x`,
  ]
}

function row(name: string, cells: readonly string[]): string {
  return `  ${name.padEnd(20)}${cells.map((cell) => cell.padStart(18)).join('')}`
}

function megabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(0)
}
