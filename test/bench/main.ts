import { cpus } from 'node:os'
import { parseArgs } from 'node:util'
import { apt, onPath } from '../harness/debian.ts'
import { throwAwayFolder } from '../harness/folders.ts'
import { Bench, type BenchOptions } from './bench.ts'
import { holdfast } from './holdfast.ts'
import { peers } from './peers.ts'
import { editedDump, editedFile } from './scenarios/edited.ts'
import { file } from './scenarios/file.ts'
import { idle } from './scenarios/idle.ts'
import { live, parallel } from './scenarios/live.ts'
import { memory } from './scenarios/memory.ts'
import { mix } from './scenarios/mix.ts'
import { models } from './scenarios/models.ts'
import { pages } from './scenarios/pages.ts'
import { part } from './scenarios/part.ts'
import { chain, restore } from './scenarios/restore.ts'
import { s3 } from './scenarios/s3.ts'
import { small } from './scenarios/small.ts'

// npm run bench: this project beside restic, kopia and borg, in interleaved rounds. docs/performance.md says what each scenario is.
// Not part of npm test. As root on Debian it installs borg and zstd, with Go it builds the newest restic and kopia; elsewhere those on PATH take part.

const SCENARIOS: Readonly<Record<string, (bench: Bench) => Promise<void>>> = {
  file,
  small,
  live,
  restore,
  s3,
  parallel,
  mix,
  models,
  'edited-dump': editedDump,
  'edited-file': editedFile,
  pages,
  part,
  chain,
  memory,
  idle,
}

const { values } = parseArgs({
  options: {
    mb: { type: 'string', default: '1000' },
    files: { type: 'string', default: '20000' },
    rounds: { type: 'string', default: '5' },
    seed: { type: 'string', default: '1' },
    incrementals: { type: 'string', default: '30' },
    'memory-mb': { type: 'string', default: '10000' },
    'known-chunks': { type: 'string', default: '20000000' },
    // shows that it runs; the figures say nothing
    quick: { type: 'boolean', default: false },
    // names of scenarios, with commas between them
    only: { type: 'string', default: '' },
  },
})
const QUICK: BenchOptions = { mb: 20, files: 200, rounds: 1, seed: 1, incrementals: 2, memoryMb: 40, knownChunks: 100_000 }
const asked = {
  mb: Number(values.mb),
  files: Number(values.files),
  rounds: Number(values.rounds),
  seed: Number(values.seed),
  incrementals: Number(values.incrementals),
  memoryMb: Number(values['memory-mb']),
  knownChunks: Number(values['known-chunks']),
}
const names = values.only === '' ? Object.keys(SCENARIOS) : values.only.split(',')
const unknown = names.filter((name) => !Object.hasOwn(SCENARIOS, name))
if (unknown.length > 0) throw new Error(`no scenario ${unknown.join(', ')}; there are ${Object.keys(SCENARIOS).join(', ')}`)

if (process.getuid?.() === 0 && onPath('apt-get') !== null) {
  process.env.HOLDFAST_TEST_REQUIRE = 'all'
  await apt(['borgbackup', 'zstd'])
}
await using folder = await throwAwayFolder()
const present = [holdfast, ...(await peers((program) => onPath(program) !== null))]
const bench = new Bench(folder.path, present, values.quick ? QUICK : asked)
const { rounds, seed } = bench.options
console.log(`${cpus().length} processors, ${cpus()[0]?.model.trim()}; ${rounds} rounds, seed ${seed}`)
for (const { name, version } of present) console.log(`  ${name.padEnd(21)}${await version()}`)
for (const name of names) await SCENARIOS[name]?.(bench)
