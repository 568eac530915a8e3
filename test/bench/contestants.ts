import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { JOB_FLAGS } from '../../agent/process/job-process.ts'
import { runCommand } from '../harness/commands.ts'
import { type GoProgram, goModule } from '../harness/go.ts'
import { type Measured, measure } from './measure.ts'
import { startTargetServer } from './target-line.ts'

/** What is backed up: a folder (of one file, or of many), or a live database. */
export interface Input {
  readonly folder: string
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
  /** Makes a new repository in `folder` and backs the input up: the database where there is one (by pg_dump), else the folder. */
  run(input: Input, folder: string): Promise<Measured>
  /** Restores the folder that was backed up there into `to`, which does not exist yet. */
  restore(input: Input, folder: string, to: string): Promise<Measured>
  readonly version: () => Promise<string>
}

const PASSWORD = 'bench'

/** Standard input is what a live pg_dump writes. */
const piped = (consumer: string) => ['/bin/bash', ['-c', `set -o pipefail; "$PG_DUMP" | ${consumer}`]] as const

const environment = (input: Input, folder: string, to = '') => ({
  PG_DUMP: input.database?.pgDump ?? '',
  TO: to,
  ...input.database?.env,
  REPO: folder,
  HOME: folder,
  RESTIC_PASSWORD: PASSWORD,
  BORG_PASSPHRASE: PASSWORD,
  BORG_BASE_DIR: `${folder}.base`,
  KOPIA_PASSWORD: PASSWORD,
  KOPIA_CONFIG_PATH: path.join(`${folder}.base`, 'repository.config'),
  KOPIA_CACHE_DIRECTORY: path.join(`${folder}.base`, 'cache'),
  KOPIA_LOG_DIR: path.join(`${folder}.base`, 'log'),
  KOPIA_CHECK_FOR_UPDATES: 'false',
})

export const holdfast: Contestant = {
  name: 'holdfast',
  version: async () => `this tree, Node ${process.versions.node}`,
  run: async (input, folder) => {
    const what = input.database
      ? { engine: 'postgres', config: input.database.config }
      : { engine: 'files', config: { path: input.folder } }
    return drive('driver.ts', what, folder)
  },
  restore: (_input, folder, to) => drive('restore-driver.ts', { engine: 'files', config: { path: to } }, folder),
}

/**
 * As the agent starts a job; an agent's cache of code is there from its first job on. The server of the local target is part of the control plane, which
 * runs before any job: it is started before, and what it does meanwhile counts.
 */
async function drive(driver: string, what: { engine: string; config: unknown }, folder: string): Promise<Measured> {
  const server = await startTargetServer(folder)
  try {
    const task = `${folder}.json`
    await writeFile(task, JSON.stringify({ ...what, store: folder, served: server.served, opened: `${folder}.opened` }))
    const env = { NODE_COMPILE_CACHE: path.join(path.dirname(folder), 'code') }
    return await measure(process.execPath, [...JOB_FLAGS, path.join(import.meta.dirname, driver), task], env, server.pid)
  } finally {
    await server.stop()
  }
}

/** `program`: its path. Two versions of it can take part. */
const restic = (name: string, program: string): Contestant => ({
  name,
  version: async () => (await runCommand(program, ['version'])).split(' ').slice(0, 2).join(' '),
  run: async (input, folder) => {
    const env = { ...environment(input, folder), RESTIC: program }
    await runCommand(program, ['--quiet', '--no-cache', '--repo', folder, 'init', '--repository-version', '2'], { env })
    const common = ['--quiet', '--no-cache', '--repo', folder, 'backup']
    if (!input.database) return measure(program, [...common, input.folder], env)
    return measure(...piped('"$RESTIC" --quiet --no-cache --repo "$REPO" backup --stdin --stdin-filename dump.sql'), env)
  },
  restore: (input, folder, to) => {
    const env = environment(input, folder)
    const args = ['--quiet', '--no-cache', '--repo', folder, 'restore', `latest:${input.folder}`, '--target', to]
    return measure(program, args, env)
  },
})

const kopia = (program: string): Contestant => ({
  name: 'kopia zstd',
  // built from its module it does not know its own
  version: async () => `kopia ${KOPIA.version}`,
  run: async (input, folder) => {
    const env = { ...environment(input, folder), KOPIA: program }
    await mkdir(folder)
    await runCommand(program, ['repository', 'create', 'filesystem', '--path', folder], { env })
    await runCommand(program, ['policy', 'set', '--global', '--compression', 'zstd'], { env })
    if (!input.database) return measure(program, ['snapshot', 'create', '--no-progress', input.folder], env)
    return measure(...piped('"$KOPIA" snapshot create --no-progress --stdin-file dump.sql /dump'), env)
  },
  restore: async (input, folder, to) => {
    const env = environment(input, folder)
    const [latest] = JSON.parse(await runCommand(program, ['snapshot', 'list', '--json'], { env })) as Array<{ id: string }>
    return measure(program, ['snapshot', 'restore', '--no-progress', latest?.id ?? '', to], env)
  },
})

const borg = (name: string, compression: string): Contestant => ({
  name,
  version: async () => (await runCommand('borg', ['--version'])).trim(),
  run: async (input, folder) => {
    const env = environment(input, folder)
    await runCommand('borg', ['init', '--encryption', 'repokey-blake2', folder], { env })
    if (!input.database) return measure('borg', ['create', '--compression', compression, `${folder}::a`, input.folder], env)
    return measure(...piped(`borg create --compression ${compression} "$REPO"::a -`), env)
  },
  // it has no option for where to: into the working folder, without the path before the source
  restore: (input, folder, to) => {
    const above = input.folder.split('/').filter(Boolean).length
    const command = `mkdir "$TO" && cd "$TO" && borg extract --strip-components ${above} "$REPO"::a`
    return measure('/bin/bash', ['-c', command], environment(input, folder, to))
  },
})

/** No chunks, no encryption, no repository: what compressing alone costs. */
const zstd: Contestant = {
  name: 'zstd -3 -T2 alone',
  version: async () => (await runCommand('zstd', ['--version'])).trim().replace(/^.*(v[\d.]+).*$/s, '$1'),
  run: async (input, folder) => {
    await mkdir(folder)
    const env = environment(input, folder)
    if (!input.database) return measure('zstd', ['-q', '-3', '-T2', '-r', input.folder, '--output-dir-flat', folder], env)
    return measure(...piped('zstd -q -3 -T2 -o "$REPO"/dump.zst'), env)
  },
  restore: (input, folder, to) => {
    const env = environment(input, folder, to)
    return measure('/bin/bash', ['-c', 'mkdir "$TO" && zstd -q -d -r "$REPO" --output-dir-flat "$TO"'], env)
  },
}

/** The newest peers, built from their modules; Debian's are years old. */
const RESTIC: GoProgram = { module: 'github.com/restic/restic', version: 'v0.18.1', package: './cmd/restic' }
const KOPIA: GoProgram = { module: 'github.com/kopia/kopia', version: 'v0.22.3', package: '.' }

/** This project and the peers that this machine has. `has` tells whether a program is on PATH. */
export async function contestants(has: (program: string) => boolean): Promise<Contestant[]> {
  const built = has('go') ? [restic('restic', await goModule(RESTIC)), kopia(await goModule(KOPIA))] : []
  const debians = has('restic') && built.length === 0 ? [restic('restic', 'restic')] : []
  const borgs = has('borg') ? [borg('borg zstd,3', 'zstd,3'), borg('borg lz4', 'lz4')] : []
  return [holdfast, ...built, ...debians, ...borgs, ...(has('zstd') ? [zstd] : [])]
}
