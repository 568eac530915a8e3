import { once } from 'node:events'
import { createWriteStream } from 'node:fs'
import { PassThrough, type Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { Finding } from '../../../shared/results.ts'
import type { Arg, RunningTool } from '../../process/tools.ts'
import type { Run } from '../engine.ts'
import { fromTool } from './errors.ts'
import type { Session } from './session.ts'
import type { PostgresTools } from './tools.ts'

interface ArchiveContext {
  readonly tools: PostgresTools
  readonly major: number
  readonly snapshotId: string
  readonly env: Readonly<Record<string, string>>
}

/** Longer, and the caller lets go of its own locks (hold.ts says why). */
const LOCK_WAIT_MS = 20_000

/** The definitions, those before the rows and those after them (indexes, constraints, triggers, materialised views), as a file. */
export async function dumpDefinitions(file: string, context: ArchiveContext, run: Run): Promise<void> {
  const running = start(['--section=pre-data', '--section=post-data'], context, run)
  await pipeline(outputOf(running), createWriteStream(file, { mode: 0o600 }))
}

/** An archive that is on its way: its pg_dump has all the locks it needs and waits for a reader. */
export interface LargeObjectsDump {
  readonly bytes: AsyncIterable<Buffer>
  /** For when nobody will read it. */
  kill(): Promise<void>
}

/**
 * Large objects alone. `--section=data` without any table has nothing else: it drops sequence values silently, so those are
 * read by themselves (sequences.ts). Up to 16 the objects are made by the definitions, from 17 on by this one.
 */
export async function startLargeObjects(context: ArchiveContext, run: Run): Promise<LargeObjectsDump> {
  const running = start(['--section=data', '--exclude-table-data=*.*'], context, run)
  // a reader from the first moment: Node throws away what an ended child printed when nobody reads it yet
  const waiting = new PassThrough()
  const piped = pipeline(running.stdout, waiting)
  // looked at by whoever reads `waiting`, which ends with the same error
  piped.catch(() => undefined)
  // the table of contents comes first, and after all locks
  await Promise.race([once(waiting, 'readable').catch(() => running.done), running.done])
  return { bytes: outputOf(running, waiting), kill: () => running.kill() }
}

function start(options: readonly string[], context: ArchiveContext, run: Run): RunningTool {
  const args: Arg[] = [
    '--format=custom',
    // the repository compresses, and finds duplicates only in what is not compressed
    '--compress=0',
    '--no-password',
    `--snapshot=${context.snapshotId}`,
    `--lock-wait-timeout=${LOCK_WAIT_MS}`,
    ...options,
    ...(context.major >= 18 ? ['--no-statistics'] : []),
  ]
  return run.tools.start(context.tools.dump, args, { signal: run.signal, env: context.env, mapError: fromTool })
}

/** Small, and read as a whole: a failure must leave no torn artifact. Null where the server gives nothing; then, or without the passwords, with a finding. */
export interface Globals {
  readonly sql: Buffer | null
  readonly finding: Finding | null
}

/**
 * Roles and tablespaces of the whole server, as SQL. Managed servers hide the passwords even from their administrators;
 * a server that gives nothing at all is no reason to have no backup. Throws when the run was aborted.
 */
export async function readGlobals(
  session: Session,
  context: { tools: PostgresTools; env: Readonly<Record<string, string>>; maintenance: string },
  run: Run,
): Promise<Globals> {
  const withPasswords = await seesPasswords(session)
  const args: Arg[] = ['--globals-only', '--no-password', ...(withPasswords ? [] : ['--no-role-passwords'])]
  const env = { ...context.env, PGDATABASE: context.maintenance }
  try {
    const { stdout } = await run.tools.run(context.tools.dumpall, args, { signal: run.signal, env, mapError: fromTool })
    return { sql: stdout, finding: withPasswords ? null : PASSWORDS_MISSING }
  } catch (error) {
    run.signal.throwIfAborted()
    return { sql: null, finding: globalsMissing(error) }
  }
}

async function seesPasswords(session: Session): Promise<boolean> {
  const [row] = await session.rows<{ sees: boolean }>(`select has_table_privilege('pg_authid', 'select') as sees`)
  return row?.sees ?? false
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
export async function* single(bytes: Buffer): AsyncGenerator<Buffer> {
  yield bytes
}

/** Standard output of a tool, ending in an error unless the tool exits 0: a short output never looks like a whole one. */
async function* outputOf(running: RunningTool, output: Readable = running.stdout): AsyncGenerator<Buffer> {
  let ended = false
  try {
    yield* output as AsyncIterable<Buffer>
    ended = true
    await running.done
  } catch (error) {
    if (!ended) await running.done
    throw error
  } finally {
    if (!ended) await running.kill()
  }
}
