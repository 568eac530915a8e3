import { type Command, Option } from 'commander'
import { EXIT, type ExitStatus } from '../../../shared/exit-status.ts'
import type { SourceView } from '../../api/schemas/agents.ts'
import type { BackupView, CleanupView } from '../../api/schemas/backups.ts'
import { type Cli, type CommonOptions, remote } from '../cli.ts'
import { confirm } from '../confirm.ts'
import { requireKnownSource, sourceName } from '../known-source.ts'
import { printFacts, printJson, printTable } from '../print.ts'
import type { Run } from '../program.ts'
import { resolveBackup } from '../resolve.ts'
import { countText, safe, sizeText, timeText } from '../text.ts'
import { positiveInteger } from './create.ts'

export const ID_HELP = 'its id, a unique beginning or ending of it, or latest:host/name'

export function backupCommands(parent: Command, run: Run): void {
  remote(parent.command('list'))
    .summary('list backups, newest first')
    .addOption(new Option('--limit <n>', 'how many').argParser(positiveInteger).default(50))
    .option('--cursor <cursor>', 'next_cursor of the page before')
    .option('--source <host/name>', 'of this source only', sourceName)
    .addOption(new Option('--type <type>', 'of this kind only').choices(['full', 'incremental', 'differential']))
    .addOption(new Option('--status <status>', 'with this status only').choices(['running', 'good', 'failed', 'expired']))
    .action(run(list))
  remote(parent.command('show')).summary('show one backup').argument('<backup>', ID_HELP).action(run(show))
  remote(parent.command('delete'))
    .summary('remove a backup that nothing leans on')
    .argument('<backup>', ID_HELP)
    .option('--yes', 'do not ask')
    .action(run(remove))
  remote(parent.command('pin')).summary('keep a backup whatever retention says').argument('<backup>', ID_HELP).action(run(pin))
  remote(parent.command('unpin')).summary('leave a backup to retention again').argument('<backup>', ID_HELP).action(run(unpin))
  remote(parent.command('cleanup'))
    .summary('remove what retention no longer keeps')
    .option('--dry-run', 'only show what would be removed')
    .action(run(cleanup))
  remote(parent.command('accept-fall'))
    .summary('say that a sharp fall in size or counts is right, so that cleanup goes on')
    .argument('<source>', 'host/name', sourceName)
    .option('--yes', 'do not ask')
    .action(run(acceptFall))
}

interface ListOptions extends CommonOptions {
  readonly limit: number
  readonly cursor?: string
  readonly source?: string
  readonly type?: string
  readonly status?: string
}

async function list(cli: Cli, options: ListOptions): Promise<ExitStatus> {
  const { limit, cursor, source, type, status } = options
  const page = await cli.client.get<{ items: BackupView[]; next_cursor: string | null }>('/api/v1/backups', {
    limit,
    cursor,
    source,
    type,
    status,
  })
  if (source !== undefined && cursor === undefined && page.items.length === 0) await requireKnownSource(cli.client, source)
  if (cli.format === 'json') {
    printJson(cli.io, page)
    return EXIT.done
  }
  printTable(
    cli.io,
    ['BACKUP', 'SOURCE', 'TYPE', 'STATUS', 'CREATED', 'READ', 'STORED', 'VALID', 'DESCRIPTION'],
    page.items.map((backup) => [
      backup.id,
      backup.source,
      backup.type,
      backup.status + (backup.pinned_at ? ', pinned' : ''),
      timeText(backup.created_at),
      sizeText(backup.size_bytes),
      sizeText(backup.stored_bytes),
      validText(backup),
      backup.description ?? '',
    ]),
    'no backups',
  )
  if (page.next_cursor !== null) cli.io.err(`more: --cursor ${safe(page.next_cursor)}\n`)
  return EXIT.done
}

/** The strongest thing that was proven. */
function validText(backup: BackupView): string {
  if (backup.valid === false) return 'NOT VALID'
  if (backup.test_restored_at) return 'test-restored'
  if (backup.verified_at) return 'verified'
  return backup.valid ? 'valid' : '-'
}

async function show(cli: Cli, id: string): Promise<ExitStatus> {
  return showBackup(cli, await resolveBackup(cli.client, id))
}

function showBackup(cli: Cli, backup: BackupView): ExitStatus {
  if (cli.format === 'json') {
    printJson(cli.io, backup)
    return EXIT.done
  }
  printFacts(cli.io, {
    backup: backup.id,
    source: `${backup.source} (${backup.engine})`,
    type: backup.type,
    status: backup.status,
    description: backup.description,
    created: timeText(backup.created_at),
    finished: timeText(backup.finished_at),
    read: sizeText(backup.size_bytes),
    stored: sizeText(backup.stored_bytes),
    counted: countText(backup.total_count),
    'leans on': backup.leans_on.join(', '),
    validated: backup.valid === null ? null : `${backup.valid ? 'valid' : 'NOT VALID'}, ${timeText(backup.validated_at)}`,
    verified: backup.verified_at && `${timeText(backup.verified_at)} by ${backup.verified_by ?? '-'}`,
    'test-restored': backup.test_restored_at && `${timeText(backup.test_restored_at)} by ${backup.test_restored_by ?? '-'}`,
    pinned: backup.pinned_at && timeText(backup.pinned_at),
    copies: backup.copies.map((copy) => `${copy.target} ${copy.state}`).join(', '),
    'sealed to': backup.needs_unlock ? 'the recovery recipients alone: a restore waits for holdfast unlock' : null,
    parts: backup.parts.join(', '),
    job: backup.job_id,
  })
  return EXIT.done
}

async function remove(cli: Cli, id: string, options: { yes?: boolean }): Promise<ExitStatus> {
  const backup = await resolveBackup(cli.client, id)
  await confirm(cli.io, options.yes, `Remove backup ${backup.id} of ${backup.source} for good?`)
  return showBackup(cli, await cli.client.send<BackupView>('DELETE', `/api/v1/backups/${backup.id}`))
}

async function pin(cli: Cli, id: string): Promise<ExitStatus> {
  const { id: whole } = await resolveBackup(cli.client, id)
  return showBackup(cli, await cli.client.send<BackupView>('PUT', `/api/v1/backups/${whole}/pin`))
}

async function unpin(cli: Cli, id: string): Promise<ExitStatus> {
  const { id: whole } = await resolveBackup(cli.client, id)
  return showBackup(cli, await cli.client.send<BackupView>('DELETE', `/api/v1/backups/${whole}/pin`))
}

async function cleanup(cli: Cli, options: { dryRun?: boolean }): Promise<ExitStatus> {
  const answer = options.dryRun
    ? await cli.client.get<CleanupView>('/api/v1/cleanup')
    : await cli.client.send<CleanupView>('POST', '/api/v1/cleanup', {})
  if (cli.format === 'json') {
    printJson(cli.io, answer)
    return EXIT.done
  }
  printTable(
    cli.io,
    ['BACKUP', 'SOURCE', 'CREATED', 'STORED', 'REASON'],
    answer.remove.map((one) => [one.id, one.source, timeText(one.created_at), sizeText(one.stored_bytes), one.reason]),
    answer.keep === 0 ? 'no policy says how long a backup is kept: all of them stay' : 'nothing to remove',
  )
  for (const held of answer.held) cli.io.out(`held  ${safe(held.source)}  ${safe(held.reason)}\n`)
  for (const finding of answer.findings) cli.io.out(`${finding.severity}  ${safe(finding.message)}\n`)
  const verb = answer.dry_run ? 'would be removed' : 'removed'
  cli.io.out(`${answer.remove.length} ${verb}, ${sizeText(answer.freed_bytes)} freed, ${answer.keep} kept\n`)
  return EXIT.done
}

async function acceptFall(cli: Cli, source: string, options: { yes?: boolean }): Promise<ExitStatus> {
  await confirm(
    cli.io,
    options.yes,
    `Let retention remove older backups of ${safe(source)} again, although the newest hold much less?`,
  )
  const place = source.split('/').map(encodeURIComponent).join('/')
  const answer = await cli.client.send<SourceView>('POST', `/api/v1/sources/${place}/accept-fall`)
  if (cli.format === 'json') printJson(cli.io, answer)
  else cli.io.out(`${safe(answer.source)}  accepted\n`)
  return EXIT.done
}
