import { createWriteStream } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import { pipeline } from 'node:stream/promises'
import type { BackupSource } from '../../../shared/artifacts.ts'
import type { Arg } from '../../process/tools.ts'
import type { Run } from '../engine.ts'
import { type ChosenEntries, chooseEntries, dropConstraints } from './archive-list.ts'
import { invalid } from './artifacts.ts'
import type { Closure } from './closure.ts'
import { fromTool } from './errors.ts'
import type { PostgresTools } from './tools.ts'

/**
 * `--dbname` has to be there, or pg_restore prints SQL; what makes it an option string and no name is the equals sign.
 * The database itself comes by PGDATABASE.
 */
const CONNECT = '--dbname=connect_timeout=30'

/** Before the rows, and after them. */
export type Section = 'pre-data' | 'post-data'

export interface RestoreContext {
  readonly tools: PostgresTools
  readonly env: Readonly<Record<string, string>>
  /** Null: everything. */
  readonly closure: Closure | null
  /** Which constraints of a whole restore can hold; null: all. */
  readonly keep: ((key: string) => boolean) | null
  /** Owners and grants are left out when some of their roles are not there. */
  readonly owners: boolean
  /** Everything goes into the default tablespace when one of the source's is not there. */
  readonly tablespaces: boolean
  readonly parallel: number
}

/** The archive of the definitions as a file of the job: it is small, and pg_restore takes neither a list nor several jobs from a pipe. */
export async function fetchDefinitions(source: BackupSource, run: Run): Promise<string> {
  const file = path.join(run.scratch, 'definitions.archive')
  await pipeline(source.openStream('definitions'), createWriteStream(file, { mode: 0o600 }), { signal: run.signal })
  return file
}

/** Restores the definitions before or after the rows from their archive. `dropped`: foreign keys that were left out. */
export async function restoreDefinitions(
  section: Section,
  file: string,
  context: RestoreContext,
  run: Run,
): Promise<{ dropped: number }> {
  const list = `${file}.${section}`
  const { kept, dropped } = await chooseList(section, file, context, run)
  await writeFile(list, kept.map((dumpId) => `${dumpId};\n`).join(''), { mode: 0o600 })
  const jobs = section === 'post-data' ? [`--jobs=${context.parallel}`] : []
  const args: Arg[] = [
    ...COMMON,
    ...jobs,
    `--section=${section}`,
    ...(context.owners ? [] : ['--no-owner', '--no-privileges']),
    ...(context.tablespaces ? [] : ['--no-tablespaces']),
    `--use-list=${list}`,
    { value: file },
  ]
  await run.tools.run(context.tools.restore, args, { signal: run.signal, env: context.env, mapError: fromTool })
  return { dropped }
}

const COMMON = ['--format=custom', '--exit-on-error', '--no-password', CONNECT]

/** Large objects stream: their archive holds nothing that would have to be chosen from. */
export async function restoreLargeObjects(context: RestoreContext, source: BackupSource, run: Run): Promise<void> {
  const args = [...COMMON, ...(context.owners ? [] : ['--no-owner', '--no-privileges'])]
  const running = run.tools.start(context.tools.restore, args, { signal: run.signal, env: context.env, mapError: fromTool })
  running.stdout.resume()
  if (!(await running.feed(source.openStream('large-objects')))) throw invalid('has bytes after the end of its large objects')
  await running.done
}

async function chooseList(section: Section, file: string, context: RestoreContext, run: Run): Promise<ChosenEntries> {
  const { stdout } = await run.tools.run(context.tools.restore, ['--list', `--section=${section}`, { value: file }], {
    signal: run.signal,
    env: context.env,
    mapError: fromTool,
    maxOutputBytes: 1024 ** 3,
  })
  const list = stdout.toString('utf8')
  if (context.closure) return chooseEntries(list, context.closure)
  return dropConstraints(list, context.keep ?? (() => true))
}
