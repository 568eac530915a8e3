import { stat } from 'node:fs/promises'
import Table from 'cli-table3'
import { Command, Option } from 'commander'
import { type AgentHome, stateFolders } from '../config/home.ts'
import { Journal, type JournalRecord } from '../jobs/journal.ts'
import { backupOf, shownJobKey } from '../jobs/unlock.ts'
import type { CliDeps } from './deps.ts'

interface ShownJob {
  readonly job: string
  readonly kind: string
  readonly attempt: number
  readonly state: string
  readonly backup: string | null
  readonly source: string | null
  /** Name that a restore writes, where it is not the source itself. */
  readonly into: string | null
  readonly fingerprint: string | null
}

/** `jobs`: what this host's own journal holds, asked of nobody else. An operator who unlocks a job compares its fingerprint with this one. */
export function jobsCommand(deps: CliDeps): Command {
  return new Command('jobs')
    .description("what this host's agent was told to do and is not over, with the fingerprints that `holdfast unlock` asks for")
    .addOption(new Option('--format <format>').choices(['table', 'json']).default('table'))
    .action(async ({ format }: { format: 'table' | 'json' }) => {
      const jobs = await Promise.all((await journalOf(deps.home())).map(shown))
      if (format === 'json') return deps.print(JSON.stringify({ jobs }, null, 2))
      if (jobs.length === 0) return deps.printError('no jobs')
      deps.print(asTable(jobs))
    })
}

/** Looked at only: a host without a journal has no jobs. */
async function journalOf(home: AgentHome): Promise<JournalRecord[]> {
  const folder = stateFolders(home).journal
  const there = await stat(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null
    throw error
  })
  return there ? (await Journal.open(folder)).records() : []
}

async function shown(record: JournalRecord): Promise<ShownJob> {
  const { work } = record.command
  const backup = backupOf(record.command)
  return {
    job: record.jobId,
    kind: work?.$case === 'testRestore' ? 'test-restore' : (work?.$case ?? 'unknown'),
    attempt: record.attempt,
    state: record.state,
    backup: backup?.id ?? null,
    source: backup ? `${backup.host}/${backup.source}` : null,
    into: work?.$case === 'restore' ? work.value.targetName || work.value.viaSource : null,
    fingerprint: (await shownJobKey(record))?.fingerprint ?? null,
  }
}

function asTable(jobs: readonly ShownJob[]): string {
  const table = new Table({
    head: ['job', 'kind', 'attempt', 'state', 'source', 'backup', 'into', 'fingerprint'],
    style: { head: [], border: [] },
  })
  for (const { job, kind, attempt, state, source, backup, into, fingerprint } of jobs) {
    table.push([job, kind, attempt, state, source ?? '', backup ?? '', into ?? '', fingerprint ?? ''])
  }
  return table.toString()
}
