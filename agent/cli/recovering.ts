import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import Table from 'cli-table3'
import { systemClock } from '../../shared/clock.ts'
import { HoldfastError } from '../../shared/errors.ts'
import { createLogger } from '../../shared/log.ts'
import { sizeText } from '../../shared/size-text.ts'
import type { StorageTarget } from '../../shared/storage/target.ts'
import { readYaml } from '../../shared/yaml.ts'
import type { Run } from '../engines/engine.ts'
import { createTools } from '../process/spawn.ts'
import { type RecoveryCredentials, recoveryCredentials } from '../recover/credentials.ts'
import { type RecoverableBackup, recoverList } from '../recover/list.ts'
import { type OpenedRecovery, openForRecovery } from '../recover/open.ts'
import { writeRaw } from '../recover/raw.ts'
import { type RecoveryTarget, requireEngine, restoreRecovered } from '../recover/restore.ts'
import { connectionOf, settingsOf } from './settings.ts'
import { readTextFile } from './text-file.ts'

/** What the commands need of the process they run in. */
export interface RecoverDeps {
  print(line: string): void
  printError(line: string): void
  readStdin(): Promise<string>
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly stop: AbortSignal
}

interface StoreOptions {
  store: string
  identity: string
  verifyingKey?: string
}

export interface ListOptions extends StoreOptions {
  source?: string
  format: 'table' | 'json'
}

export interface RestoreOptions extends StoreOptions {
  to?: string
  engine?: string
  url?: string
  urlFile?: string
  option: string[]
  config?: string
  name?: string
  part: string[]
  overwrite?: boolean
  raw?: boolean
}

export async function list(options: ListOptions, deps: RecoverDeps): Promise<void> {
  await withOpenStore(options, async (store, { verifyingKey, identities }) => {
    const found = await recoverList(store, { verifyingKey, identities, signal: deps.stop })
    const backups = found.backups.filter(({ host, source }) => !options.source || `${host}/${source}` === options.source)
    if (options.format === 'json') deps.print(JSON.stringify({ backups, problems: found.problems }, null, 2))
    else {
      if (backups.length > 0 || options.source === undefined) deps.print(asTable(backups))
      for (const { code, message } of found.problems) deps.printError(`${code}: ${message}`)
      if (!verifyingKey) deps.printError('origin not verified: give the verifying key (hfv1...) to know whose backups these are')
    }
    const closed = whatStaysClosed(backups, options.identity)
    if (closed) deps.printError(closed)
    if (found.problems.length > 0) {
      throw new HoldfastError(
        'manifest_forged',
        `${found.problems.length} manifests are not to be believed or do not fit together`,
        {
          hint: 'Restore only backups whose origin is verified, and look at who can write to the store.',
        },
      )
    }
    if (options.source !== undefined && backups.length === 0) throw noneOf(options.source, found.backups)
  })
}

/** A name that is misspelt must not look like backups that are lost. */
function noneOf(source: string, backups: readonly RecoverableBackup[]): HoldfastError {
  const there = [...new Set(backups.map((backup) => `${backup.host}/${backup.source}`))].sort()
  const some = `${there.slice(0, 10).join(', ')}${there.length > 10 ? ' ...' : ''}`
  return new HoldfastError('not_found', `the store has no backup of ${JSON.stringify(source)}`, {
    hint: there.length === 0 ? 'It has none of any source.' : `It has backups of ${some}.`,
  })
}

/** Said before somebody needs a backup that this key does not open. Of a deleted one there are no keys, whoever asks. */
function whatStaysClosed(backups: readonly RecoverableBackup[], identity: string): string | undefined {
  const present = backups.filter(({ state }) => state === 'present')
  const opened = present.filter(({ opens }) => opens).length
  if (opened === present.length) return undefined
  const rest = `${opened === 0 ? 'they are' : 'the others are'} sealed to other keys, which a restore names`
  const which =
    opened === 0 ? `none of the ${present.length} backups listed` : `${opened} of the ${present.length} backups listed`
  return `the identity in ${identity} opens ${which}; ${rest}`
}

function asTable(backups: readonly RecoverableBackup[]): string {
  const table = new Table({
    // what was read stands rounded in a manifest: docs/decisions/0010
    head: ['id', 'source', 'engine', 'type', 'read (about)', 'stored', 'origin', 'state', 'opens'],
    style: { head: [], border: [] },
  })
  for (const { id, host, source, engine, type, readBytes, storedBytes, origin, state, opens } of backups) {
    const sizes = [sizeText(readBytes), sizeText(storedBytes)]
    table.push([id, `${host}/${source}`, engine, type, ...sizes, origin, state, opens ? 'yes' : 'NO'])
  }
  return table.toString()
}

export async function restore(id: string, options: RestoreOptions, deps: RecoverDeps): Promise<void> {
  if (options.raw) requireRaw(options)
  const target = await targetOf(options, deps)
  await withOpenStore(options, async (store, credentials) => {
    const opened = await openForRecovery(store, id, credentials, { signal: deps.stop, scratch: tmpdir() })
    try {
      await restoreOpened(opened, target, options, deps)
    } finally {
      await opened.reader.close()
    }
  })
}

async function restoreOpened(opened: OpenedRecovery, target: RecoveryTarget, options: RestoreOptions, deps: RecoverDeps) {
  const { facts } = opened.manifest
  requireEngine(facts, options.engine)
  if (opened.origin !== 'verified') deps.printError('origin not verified: no verifying key was given')
  if (options.raw && options.to) {
    const written = await writeRaw(opened.reader, path.resolve(options.to), deps.stop)
    deps.print(`${facts.id}: ${written.filter(({ file }) => file).length} streams written to ${options.to}`)
    return
  }
  if (options.to && facts.engine === 'sqlite') await mkdir(options.to, { recursive: true })
  await withRun(deps, async (run) => {
    const findings = await restoreRecovered(opened, target, run)
    for (const finding of findings) deps.printError(`${finding.code}: ${finding.message}`)
    if (findings.length > 0) {
      throw new HoldfastError('fingerprint_mismatch', `${facts.id} was restored, but counts differ from when it was made`, {
        hint: 'Compare the parts named above with an older backup.',
      })
    }
    const { foundBytes } = opened.reader.totals
    const found = foundBytes > 0 ? `, ${sizeText(foundBytes)} of it found in place` : ''
    deps.print(
      `${facts.host}/${facts.source} ${facts.id}: restored${options.to ? ` to ${options.to}` : ''}${found}, counts agree`,
    )
  })
}

function requireRaw({ to, name, part, overwrite, option }: RestoreOptions): void {
  if (to !== undefined && name === undefined && part.length === 0 && !overwrite && option.length === 0) return
  throw new HoldfastError('invalid_argument', '--raw needs --to, and no --name, --part, --overwrite or --option goes with it', {
    hint: 'It writes every stream of the backup into the new folder that --to names.',
  })
}

/** One way to say where; what is left out of a command must not be guessed from the environment. */
async function targetOf(options: RestoreOptions, deps: RecoverDeps): Promise<RecoveryTarget> {
  const { to, name, part: parts, overwrite = false } = options
  const places = { '--to': to, '--url': options.url, '--url-file': options.urlFile, '--config': options.config }
  const [first, second] = Object.entries(places).flatMap(([option, value]) => (value === undefined ? [] : [option]))
  if (second !== undefined) {
    throw new HoldfastError('invalid_argument', `${first} and ${second} do not go together`, {
      hint: 'Files and SQLite are restored with --to, a database with --engine and --url or --url-file.',
    })
  }
  const from = { name, parts, overwrite, settings: settingsOf(options.option) }
  if (to !== undefined) return { ...from, to }
  if (options.config !== undefined)
    return { ...from, config: readYaml({ name: options.config, text: await readTextFile(options.config) }) }
  const url = await connectionOf(options, deps)
  return url === undefined ? from : { ...from, config: { url } }
}

async function withOpenStore(
  options: StoreOptions,
  work: (store: StorageTarget, credentials: RecoveryCredentials) => Promise<void>,
): Promise<void> {
  const credentials = recoveryCredentials(await readTextFile(options.identity), options.verifyingKey)
  // here and not at the start: an agent that runs has no use for the SDKs of the stores, and would hold them for ever
  const { openStore } = await import('../../shared/storage/registry.ts')
  const store = await openStore(options.store)
  try {
    await work(store, credentials)
  } finally {
    await store.close()
  }
}

async function withRun(deps: RecoverDeps, work: (run: Run) => Promise<void>): Promise<void> {
  const scratch = await mkdtemp(path.join(tmpdir(), 'holdfast-recover-'))
  const log = createLogger({ level: 'warn' })
  try {
    await work({
      signal: deps.stop,
      log,
      clock: systemClock,
      tools: createTools({ path: deps.environment.PATH ?? '/usr/local/bin:/usr/bin:/bin', log }),
      scratch,
      finding: ({ code, message }) => deps.printError(`${code}: ${message}`),
      progress: () => undefined,
      // nobody else can restore here: there is no lease to lose
      fenced: () => deps.stop.throwIfAborted(),
    })
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }
}
