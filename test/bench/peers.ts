import { mkdir } from 'node:fs/promises'
import path from 'node:path'
import { runCommand } from '../harness/commands.ts'
import { type GoProgram, goModule } from '../harness/go.ts'
import type { Contestant, Input } from './contestant.ts'
import { type Measured, measure } from './measure.ts'

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

/** `program`: its path. Two versions of it can take part. */
const restic = (name: string, program: string): Contestant => {
  const again = (input: Input, folder: string) => {
    const env = { ...environment(input, folder), RESTIC: program }
    if (!input.database) return measure(program, ['--quiet', '--no-cache', '--repo', folder, 'backup', input.folder], env)
    return measure(...piped('"$RESTIC" --quiet --no-cache --repo "$REPO" backup --stdin --stdin-filename dump.sql'), env)
  }
  return {
    name,
    version: async () => (await runCommand(program, ['version'])).split(' ').slice(0, 2).join(' '),
    run: async (input, folder) => {
      await resticInit(program, folder, environment(input, folder))
      return again(input, folder)
    },
    again,
    restore: (input, folder, to) => {
      const args = ['--quiet', '--no-cache', '--repo', folder, 'restore', `latest:${input.folder}`, '--target', to]
      return measure(program, args, environment(input, folder))
    },
  }
}

const resticInit = (program: string, repository: string, env: Readonly<Record<string, string>>) =>
  runCommand(program, ['--quiet', '--no-cache', '--repo', repository, 'init', '--repository-version', '2'], { env })

/** A new repository at such an address in place of a folder's. */
export async function resticTo(repository: string, input: Input, more: Readonly<Record<string, string>>): Promise<Measured> {
  const program = await goModule(RESTIC)
  const env = { ...environment(input, '/nonexistent'), ...more }
  await resticInit(program, repository, env)
  return measure(program, ['--quiet', '--no-cache', '--repo', repository, 'backup', input.folder], env)
}

const kopia = (program: string): Contestant => {
  const again = (input: Input, folder: string) => {
    const env = { ...environment(input, folder), KOPIA: program }
    if (!input.database) return measure(program, ['snapshot', 'create', '--no-progress', input.folder], env)
    return measure(...piped('"$KOPIA" snapshot create --no-progress --stdin-file dump.sql /dump'), env)
  }
  return {
    name: 'kopia zstd',
    // built from its module it does not know its own
    version: async () => `kopia ${KOPIA.version}`,
    run: async (input, folder) => {
      const env = environment(input, folder)
      await mkdir(folder)
      await runCommand(program, ['repository', 'create', 'filesystem', '--path', folder], { env })
      await runCommand(program, ['policy', 'set', '--global', '--compression', 'zstd'], { env })
      return again(input, folder)
    },
    again,
    restore: async (input, folder, to) => {
      const env = environment(input, folder)
      const all = JSON.parse(await runCommand(program, ['snapshot', 'list', '--all', '--json'], { env })) as Snapshot[]
      const latest = all.toSorted((a, b) => (a.startTime < b.startTime ? -1 : 1)).at(-1)
      return measure(program, ['snapshot', 'restore', '--no-progress', latest?.id ?? '', to], env)
    },
  }
}

interface Snapshot {
  readonly id: string
  readonly startTime: string
}

const borg = (name: string, compression: string): Contestant => {
  const again = (input: Input, folder: string) => {
    const env = environment(input, folder)
    const archive = '{now:%Y%m%d-%H%M%S-%f}'
    if (!input.database)
      return measure('borg', ['create', '--compression', compression, `${folder}::${archive}`, input.folder], env)
    return measure(...piped(`borg create --compression ${compression} "$REPO"::${archive} -`), env)
  }
  return {
    name,
    version: async () => (await runCommand('borg', ['--version'])).trim(),
    run: async (input, folder) => {
      await runCommand('borg', ['init', '--encryption', 'repokey-blake2', folder], { env: environment(input, folder) })
      return again(input, folder)
    },
    again,
    // it has no option for where to: into the working folder, without the path before the source
    restore: async (input, folder, to) => {
      const env = environment(input, folder, to)
      const last = (await runCommand('borg', ['list', '--last', '1', '--short', folder], { env })).trim()
      const above = input.folder.split('/').filter(Boolean).length
      const command = `mkdir "$TO" && cd "$TO" && borg extract --strip-components ${above} "$REPO"::${last}`
      return measure('/bin/bash', ['-c', command], env)
    },
  }
}

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

/** The peers that this machine has. `has` tells whether a program is on PATH. */
export async function peers(has: (program: string) => boolean): Promise<Contestant[]> {
  const built = has('go') ? [restic('restic', await goModule(RESTIC)), kopia(await goModule(KOPIA))] : []
  const debians = has('restic') && built.length === 0 ? [restic('restic', 'restic')] : []
  const borgs = has('borg') ? [borg('borg zstd,3', 'zstd,3'), borg('borg lz4', 'lz4')] : []
  return [...built, ...debians, ...borgs, ...(has('zstd') ? [zstd] : [])]
}
