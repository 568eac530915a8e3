import { type Command, InvalidArgumentError } from 'commander'
import { z } from 'zod'
import { HoldfastError } from '../../../shared/errors.ts'
import type { ExitStatus } from '../../../shared/exit-status.ts'
import { restoreDetailSchema } from '../../../shared/results.ts'
import type { BackupView } from '../../api/schemas/backups.ts'
import type { JobView } from '../../api/schemas/jobs.ts'
import { type Cli, type CommonOptions, remote } from '../cli.ts'
import { confirm } from '../confirm.ts'
import { sourceName } from '../known-source.ts'
import type { Run } from '../program.ts'
import { quietDisplay } from '../progress.ts'
import { resolveBackup } from '../resolve.ts'
import { previewLines } from '../show-jobs.ts'
import { durationText, safe } from '../text.ts'
import { isRefusedPlan, waitForJobs } from '../wait.ts'
import { ID_HELP } from './backups.ts'
import { collect, conclude } from './create.ts'

interface RestoreOptions extends CommonOptions {
  readonly to?: string
  readonly via?: string
  readonly part: string[]
  readonly map: Record<string, string>
  readonly datasetMapping: Record<string, string>
  readonly targetTenant?: string
  readonly overwrite?: boolean
  readonly verify: boolean
  readonly plan?: boolean
  readonly yes?: boolean
  readonly watch?: boolean
  readonly wait: boolean
}

export function restoreCommand(parent: Command, run: Run): void {
  remote(parent.command('restore'))
    .summary('restore a backup')
    .description(
      'Restores into the place the backup came from, or with --to into another. What exists is replaced only with --overwrite.',
    )
    .argument('<backup>', ID_HELP)
    .option(
      '--to <host/name>',
      "a source of that host, or a new database, folder or file beside one; a host alone: the source's name there",
    )
    .option('--via <host/name>', 'source whose engine and connection are used, when that host has several', sourceName)
    .option('--part <part>', 'only this part (table, path, ...); may be repeated', collect, [])
    .option('--map <old=new>', 'restore a part under another name; may be repeated', mapping, {})
    .option('--dataset-mapping <json>', 'the same as one JSON object', jsonMapping, {})
    .option('--target-tenant <tenant>', 'into this tenant, where the engine has tenants')
    .option('--overwrite', 'replace what is there')
    .option('--no-verify', 'do not count and compare afterwards')
    .option('--plan', 'only show what would happen: what, where, how much, what is lost; status 1 when it would be refused')
    .option('--yes', 'do not ask before overwriting')
    .option('--watch', 'show progress')
    .option('--no-wait', 'return as soon as the job is accepted')
    .action(run(restore))
}

async function restore(cli: Cli, id: string, options: RestoreOptions): Promise<ExitStatus> {
  const backup = await resolveBackup(cli.client, id)
  const start = (dryRun: boolean) =>
    cli.client.send<JobView>('POST', `/api/v1/backups/${backup.id}/restore`, bodyOf(options, dryRun))
  if (options.plan) {
    const verdict = await conclude(cli, await start(true), options)
    if (cli.format === 'table' && options.wait) cli.io.out(`takes     ${durationOf(backup)}\n`)
    return verdict
  }
  if (options.overwrite && !options.yes) await askWithPlan(cli, backup, () => start(true))
  return await conclude(cli, await start(false), options)
}

function bodyOf(options: RestoreOptions, dryRun: boolean): Record<string, unknown> {
  return {
    ...(options.to === undefined ? {} : { target: options.to }),
    ...(options.via === undefined ? {} : { via: options.via }),
    dataset_ids: options.part,
    dataset_mapping: { ...options.datasetMapping, ...options.map },
    ...(options.targetTenant === undefined ? {} : { target_tenant: options.targetTenant }),
    overwrite_existing: options.overwrite === true,
    verify_integrity: options.verify,
    dry_run: dryRun,
  }
}

/** The nearest thing to a measurement that there is before the first restore. */
function durationOf({ created_at, finished_at }: BackupView): string {
  if (finished_at === null) return 'not known'
  return `about as long as the backup did: ${durationText((Date.parse(finished_at) - Date.parse(created_at)) / 1000)}`
}

/** Nobody says yes to what they have not seen: the plan is made first. */
async function askWithPlan(cli: Cli, backup: BackupView, plan: () => Promise<JobView>): Promise<void> {
  if (cli.io.canAsk) {
    const [job] = await waitForJobs({ client: cli.client, clock: cli.io.clock }, [await plan()], quietDisplay(cli.io))
    const detail = restoreDetailSchema.safeParse(job?.detail)
    if (detail.success) for (const line of previewLines(detail.data.preview)) cli.io.err(`${safe(line)}\n`)
    else if (job?.error) throw new HoldfastError('job_state', `the plan failed: ${job.error.code}: ${job.error.message}`)
    if (job && isRefusedPlan(job)) {
      throw new HoldfastError('preflight_failed', `as things are, the restore of ${backup.id} would be refused`, {
        hint: 'Mend what the plan shows as an error first.',
      })
    }
  }
  await confirm(cli.io, false, `Restore ${backup.id} of ${backup.source} and replace what is there?`)
}

function mapping(text: string, before: Record<string, string>): Record<string, string> {
  const at = text.indexOf('=')
  if (at <= 0 || at === text.length - 1) throw new InvalidArgumentError('Write it as old=new.')
  return { ...before, [text.slice(0, at)]: text.slice(at + 1) }
}

function jsonMapping(text: string): Record<string, string> {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    throw new InvalidArgumentError('It is not JSON.')
  }
  const parsed = z.record(z.string(), z.string()).safeParse(value)
  if (!parsed.success) throw new InvalidArgumentError('Write it as {"old": "new"}.')
  return parsed.data
}
