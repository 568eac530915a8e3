import type { BackupSink } from '../../../shared/artifacts.ts'
import type { Finding } from '../../../shared/results.ts'
import type { Arg, RunningTool } from '../../process/tools.ts'
import type { Run } from '../engine.ts'
import { artifact, type Kind } from './artifacts.ts'
import { fromTool } from './errors.ts'
import type { PostgresTools } from './tools.ts'

interface ArchiveContext {
  readonly tools: PostgresTools
  readonly major: number
  readonly snapshotId: string
  readonly env: Readonly<Record<string, string>>
}

/** The definitions: before the rows, or after them (indexes, constraints, triggers, materialised views). */
export async function backUpDefinitions(section: 'pre-data' | 'post-data', context: ArchiveContext, sink: BackupSink, run: Run) {
  await dump(section, [`--section=${section}`], context, sink, run)
}

/**
 * Large objects alone. `--section=data` without any table has nothing else: it drops sequence values silently, so those are
 * read by themselves (sequences.ts). Up to 16 the objects are made by the pre-data archive, from 17 on by this one.
 */
export async function backUpLargeObjects(context: ArchiveContext, sink: BackupSink, run: Run) {
  await dump('large-objects', ['--section=data', '--exclude-table-data=*.*'], context, sink, run)
}

async function dump(kind: Kind, options: readonly string[], context: ArchiveContext, sink: BackupSink, run: Run): Promise<void> {
  const args: Arg[] = [
    '--format=custom',
    // the repository compresses, and finds duplicates only in what is not compressed
    '--compress=0',
    '--no-password',
    `--snapshot=${context.snapshotId}`,
    ...options,
    ...(context.major >= 18 ? ['--no-statistics'] : []),
  ]
  const running = run.tools.start(context.tools.dump, args, { signal: run.signal, env: context.env, mapError: fromTool })
  await sink.stream(artifact(kind), outputOf(running))
}

/**
 * Roles and tablespaces of the whole server, as SQL. Managed servers hide the passwords even from their administrators;
 * a server that gives nothing at all is no reason to have no backup: what is missing is a finding.
 */
export async function backUpGlobals(
  withPasswords: boolean,
  context: { tools: PostgresTools; env: Readonly<Record<string, string>>; maintenance: string },
  sink: BackupSink,
  run: Run,
): Promise<void> {
  // small, and asked for as a whole first: a failure must leave no torn artifact
  const args: Arg[] = ['--globals-only', '--no-password', ...(withPasswords ? [] : ['--no-role-passwords'])]
  const env = { ...context.env, PGDATABASE: context.maintenance }
  let globals: Buffer
  try {
    const result = await run.tools.run(context.tools.dumpall, args, { signal: run.signal, env, mapError: fromTool })
    globals = result.stdout
  } catch (error) {
    run.signal.throwIfAborted()
    run.finding(globalsMissing(error))
    return
  }
  if (!withPasswords) run.finding(PASSWORDS_MISSING)
  await sink.stream(artifact('globals'), once(globals))
}

const PASSWORDS_MISSING: Finding = {
  code: 'roles_without_passwords',
  severity: 'warning',
  message: 'the server hides the passwords of its roles: they are backed up without',
  hint: 'Keep the passwords of the roles elsewhere; only a superuser can read them.',
}

function globalsMissing(error: unknown): Finding {
  return {
    code: 'globals_left_out',
    severity: 'warning',
    message: `roles and tablespaces could not be read: ${error instanceof Error ? error.message : String(error)}`.slice(0, 4000),
    hint: 'Let the agent connect to the maintenance database, or keep a list of the roles elsewhere.',
  }
}

/** A small artifact as a stream. */
export async function* once(bytes: Buffer): AsyncGenerator<Buffer> {
  yield bytes
}

/** Standard output of a tool, ending in an error unless the tool exits 0: a short output never looks like a whole one. */
async function* outputOf(running: RunningTool): AsyncGenerator<Buffer> {
  let ended = false
  try {
    yield* running.stdout as AsyncIterable<Buffer>
    ended = true
    await running.done
  } catch (error) {
    if (!ended) await running.done
    throw error
  } finally {
    if (!ended) await running.kill()
  }
}
