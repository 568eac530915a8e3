import { type Command, Option } from 'commander'
import { EXIT, type ExitStatus } from '../../../shared/exit-status.ts'
import type { JobEventView, JobView, LogView } from '../../api/schemas/jobs.ts'
import { JOB_STATES } from '../../domain/job.ts'
import { type Cli, type CommonOptions, remote } from '../cli.ts'
import { confirm } from '../confirm.ts'
import { requireKnownSource, sourceName } from '../known-source.ts'
import { printJson } from '../print.ts'
import type { Run } from '../program.ts'
import { resolveJob } from '../resolve.ts'
import { showJob, showJobs } from '../show-jobs.ts'
import { safe, timeText } from '../text.ts'
import { resumed } from '../wait.ts'
import { positiveInteger } from './create.ts'

export const JOB_HELP = 'its id, or a unique beginning or ending of it'

export function jobCommands(parent: Command, run: Run): void {
  remote(parent.command('jobs'))
    .summary('list jobs, newest first, or show one')
    .argument('[job]', JOB_HELP)
    .addOption(new Option('--limit <n>', 'how many').argParser(positiveInteger).default(50))
    .option('--cursor <cursor>', 'next_cursor of the page before')
    .option('--source <host/name>', 'of this source only', sourceName)
    .addOption(new Option('--status <status>', 'with this status only').choices(JOB_STATES))
    .option('--unfinished', 'only those that are not finished')
    .action(run(jobs))
  remote(parent.command('cancel'))
    .summary('end a job')
    .argument('<job>', JOB_HELP)
    .option('--reason <text>', 'kept with the job and in the audit trail')
    .action(run(cancel))
  remote(parent.command('force'))
    .summary('go on with a lost job although its attempt may still write')
    .argument('<job>', JOB_HELP)
    .option('--yes', 'do not ask')
    .action(run(force))
  remote(parent.command('logs'))
    .summary('show what a job wrote')
    .argument('<job>', JOB_HELP)
    .option('-f, --follow', 'go on until the job is finished')
    .action(run(logs))
}

interface JobsOptions extends CommonOptions {
  readonly limit: number
  readonly cursor?: string
  readonly source?: string
  readonly status?: string
  readonly unfinished?: boolean
}

async function jobs(cli: Cli, id: string | undefined, options: JobsOptions): Promise<ExitStatus> {
  if (id !== undefined) {
    showJob(cli, await resolveJob(cli.client, id))
    return EXIT.done
  }
  const { limit, cursor, source, status, unfinished } = options
  const page = await cli.client.get<{ items: JobView[]; next_cursor: string | null }>('/api/v1/jobs', {
    limit,
    cursor,
    source,
    status,
    unfinished,
  })
  if (source !== undefined && cursor === undefined && page.items.length === 0) await requireKnownSource(cli.client, source)
  if (cli.format === 'json') printJson(cli.io, page)
  else {
    showJobs(cli, page.items)
    if (page.next_cursor !== null) cli.io.err(`more: --cursor ${safe(page.next_cursor)}\n`)
  }
  return EXIT.done
}

async function cancel(cli: Cli, id: string, options: { reason?: string }): Promise<ExitStatus> {
  const job = await resolveJob(cli.client, id)
  const body = options.reason === undefined ? {} : { reason: options.reason }
  showJob(cli, await cli.client.send<JobView>('POST', `/api/v1/jobs/${job.id}/cancel`, body))
  return EXIT.done
}

async function force(cli: Cli, id: string, options: { yes?: boolean }): Promise<ExitStatus> {
  const job = await resolveJob(cli.client, id)
  const risk = `Nothing was heard of the last attempt of ${job.id} on ${job.agent}. If it still writes ${job.target ?? job.source ?? 'there'}, a further attempt may mix with it. Go on?`
  await confirm(cli.io, options.yes, risk)
  showJob(cli, await cli.client.send<JobView>('POST', `/api/v1/jobs/${job.id}/force`, { risk_accepted: true }))
  return EXIT.done
}

async function logs(cli: Cli, id: string, options: { follow?: boolean }): Promise<ExitStatus> {
  const job = await resolveJob(cli.client, id)
  return options.follow ? await follow(cli, job.id) : await all(cli, job.id)
}

async function all(cli: Cli, id: string): Promise<ExitStatus> {
  const items: LogView[] = []
  let none = true
  let cursor: string | null = null
  do {
    const page: { items: LogView[]; next_cursor: string | null } = await cli.client.get(`/api/v1/jobs/${id}/logs`, {
      limit: 500,
      cursor: cursor ?? undefined,
    })
    if (cli.format === 'json') items.push(...page.items)
    else for (const line of page.items) cli.io.out(`${timeText(line.at)}  ${safe(line.level.padEnd(5))}  ${safe(line.message)}\n`)
    none &&= page.items.length === 0
    cursor = page.next_cursor
  } while (cursor !== null)
  if (cli.format === 'json') printJson(cli.io, { items, next_cursor: null })
  else if (none) cli.io.err('it wrote nothing to its log; -f shows its states and findings too\n')
  return EXIT.done
}

async function follow(cli: Cli, id: string): Promise<ExitStatus> {
  const items: JobEventView[] = []
  for await (const event of resumed(cli.client, cli.io.clock, id)) {
    if (event.type === 'progress') continue
    if (cli.format === 'json') items.push(event)
    else cli.io.out(`${timeText(event.at)}  ${eventText(event)}\n`)
  }
  if (cli.format === 'json') printJson(cli.io, { items, next_cursor: null })
  return EXIT.done
}

function eventText({ type, data }: JobEventView): string {
  const text = (name: string) => (typeof data[name] === 'string' ? safe(data[name]) : '')
  if (type === 'log') return `${text('level').padEnd(7)}  ${text('message')}`
  if (type === 'finding') return `${text('severity').padEnd(7)}  ${text('code')}: ${text('message')} ${text('hint')}`.trimEnd()
  return `state    ${text('state')}`
}
