import { type Command, InvalidArgumentError, Option } from 'commander'
import { HoldfastError } from '../../../shared/errors.ts'
import { EXIT, type ExitStatus } from '../../../shared/exit-status.ts'
import type { JobView } from '../../api/schemas/jobs.ts'
import type { Cli, CommonOptions } from '../cli.ts'
import { remote } from '../cli.ts'
import { sourceName } from '../known-source.ts'
import { printJson } from '../print.ts'
import type { Run } from '../program.ts'
import { progressDisplay, quietDisplay } from '../progress.ts'
import { showJob, showJobs } from '../show-jobs.ts'
import { verdictOf, waitForJobs } from '../wait.ts'

interface CreateOptions extends CommonOptions {
  readonly type: string
  readonly all?: boolean
  readonly description?: string
  readonly part: string[]
  readonly tenantId?: string
  readonly dryRun?: boolean
  readonly watch?: boolean
  readonly wait: boolean
}

export const collect = (value: string, before: string[]) => [...before, value]

export function createCommand(parent: Command, run: Run): void {
  remote(parent.command('create'))
    .summary('back up sources now')
    .description(
      'Backs up the sources named, all with --all, or the only one there is: in full, unless --type says otherwise. Waits for the end.',
    )
    .argument('[sources...]', 'host/name', (text: string, before: string[] = []) => [...before, sourceName(text)])
    .addOption(new Option('--type <type>', 'kind of backup').choices(['full', 'incremental', 'differential']).default('full'))
    .option('--all', 'every source of the fleet')
    .option('--description <text>', 'a note that is kept with the backup')
    .option('--part <part>', 'only this part (table, path, ...) of the one source; may be repeated', collect, [])
    .option('--tenant-id <tenant>', "only this tenant's data, where the engine has tenants")
    .option('--dry-run', 'say what would be read and stored, store nothing')
    .option('--watch', 'show progress')
    .option('--no-wait', 'return as soon as the jobs are accepted')
    .action(run(create))
}

async function create(cli: Cli, sources: string[], options: CreateOptions): Promise<ExitStatus> {
  if (options.all && sources.length > 0) throw new HoldfastError('invalid_argument', 'name sources or say --all, not both')
  const answer = await cli.client.send<JobView | { items: JobView[] }>('POST', '/api/v1/backups', {
    type: options.type,
    ...(sources.length > 0 ? { sources } : {}),
    ...(options.all ? { all: true } : {}),
    ...(options.description === undefined ? {} : { description: options.description }),
    ...(options.part.length > 0 ? { dataset_ids: options.part } : {}),
    ...(options.tenantId === undefined ? {} : { tenant_id: options.tenantId }),
    ...(options.dryRun ? { dry_run: true } : {}),
  })
  return await conclude(cli, answer, options)
}

/** Waits unless told not to, shows what came of it, and gives the one verdict. */
export async function conclude(
  cli: Cli,
  answer: JobView | { items: JobView[] },
  options: { watch?: boolean; wait: boolean },
): Promise<ExitStatus> {
  const many = 'items' in answer
  const started = many ? answer.items : [answer]
  const display = options.watch && options.wait ? progressDisplay(cli.io) : quietDisplay(cli.io)
  const jobs = options.wait ? await waitForJobs({ client: cli.client, clock: cli.io.clock }, started, display) : started
  const [only] = jobs
  if (cli.format === 'json') printJson(cli.io, many ? { items: jobs, next_cursor: null } : only)
  else if (only && !many) showJob(cli, only)
  else showJobs(cli, jobs)
  return options.wait ? verdictOf(jobs) : EXIT.done
}

export function positiveInteger(text: string): number {
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text)
  throw new InvalidArgumentError('It has to be a whole number above 0.')
}
