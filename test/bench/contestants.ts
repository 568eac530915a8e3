import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { runCommand } from '../harness/commands.ts'
import { type Measured, measure } from './measure.ts'

/** What is backed up: a file alone in its folder, or a live database. */
export interface Input {
  readonly file: string
  readonly database: Database | null
}

export interface Database {
  /** Environment for libpq's programs. */
  readonly env: Readonly<Record<string, string>>
  readonly pgDump: string
  readonly config: unknown
}

export interface Contestant {
  readonly name: string
  /** Makes a new repository in `folder` and backs the input up. `live` reads from pg_dump (or the database) instead of the file. */
  run(input: Input, folder: string, live: boolean): Promise<Measured>
  readonly version: () => Promise<string>
}

const PASSWORD = 'bench'

/** Standard input is the dump: of a file as it lies there, or of a live pg_dump. */
function piped(input: Input, live: boolean, consumer: string): readonly [string, readonly string[]] {
  const producer = live ? '"$PG_DUMP"' : 'exec cat "$DUMP"'
  return ['/bin/bash', ['-c', `set -o pipefail; (${producer}) | ${consumer}`]]
}

const environment = (input: Input, folder: string) => ({
  DUMP: input.file,
  PG_DUMP: input.database?.pgDump ?? '',
  ...input.database?.env,
  REPO: folder,
  HOME: folder,
  RESTIC_PASSWORD: PASSWORD,
  BORG_PASSPHRASE: PASSWORD,
  BORG_BASE_DIR: `${folder}.base`,
})

const holdfast: Contestant = {
  name: 'holdfast',
  version: async () => `this tree, Node ${process.versions.node}`,
  run: async (input, folder, live) => {
    const task = `${folder}.json`
    const files = { engine: 'files', config: { path: path.dirname(input.file) } }
    const database = { engine: 'postgres', config: input.database?.config }
    await writeFile(task, JSON.stringify({ ...(live ? database : files), store: folder }))
    return measure(
      process.execPath,
      ['--disable-warning=ExperimentalWarning', path.join(import.meta.dirname, 'driver.ts'), task],
      {},
    )
  },
}

const restic: Contestant = {
  name: 'restic',
  version: async () => (await runCommand('restic', ['version'])).split(' ').slice(0, 2).join(' '),
  run: async (input, folder, live) => {
    const env = environment(input, folder)
    await runCommand('restic', ['--quiet', '--no-cache', '--repo', folder, 'init', '--repository-version', '2'], { env })
    const common = ['--quiet', '--no-cache', '--repo', folder, 'backup']
    if (!live) return measure('restic', [...common, input.file], env)
    return measure(
      ...piped(input, live, 'restic --quiet --no-cache --repo "$REPO" backup --stdin --stdin-filename dump.sql'),
      env,
    )
  },
}

const borg = (name: string, compression: string): Contestant => ({
  name,
  version: async () => (await runCommand('borg', ['--version'])).trim(),
  run: async (input, folder, live) => {
    const env = environment(input, folder)
    await runCommand('borg', ['init', '--encryption', 'repokey-blake2', folder], { env })
    if (!live) return measure('borg', ['create', '--compression', compression, `${folder}::a`, input.file], env)
    return measure(...piped(input, live, `borg create --compression ${compression} "$REPO"::a -`), env)
  },
})

/** No chunks, no encryption, no repository: what compressing alone costs. */
const zstd: Contestant = {
  name: 'zstd -3 -T2 alone',
  version: async () => (await runCommand('zstd', ['--version'])).trim().replace(/^.*(v[\d.]+).*$/s, '$1'),
  run: async (input, folder, live) => {
    await mkdir(folder)
    const env = environment(input, folder)
    if (!live) return measure('zstd', ['-q', '-3', '-T2', input.file, '-o', path.join(folder, 'dump.zst')], env)
    return measure(...piped(input, live, 'zstd -q -3 -T2 -o "$REPO"/dump.zst'), env)
  },
}

export const CONTESTANTS: readonly Contestant[] = [holdfast, restic, borg('borg zstd,3', 'zstd,3'), borg('borg lz4', 'lz4'), zstd]
