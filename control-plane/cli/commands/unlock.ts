import { readFile } from 'node:fs/promises'
import path from 'node:path'
import type { Command } from 'commander'
import { parseIdentityFile } from '../../../shared/age/age.ts'
import { jobKeyFingerprint, sameFingerprint } from '../../../shared/age/job-key.ts'
import { HoldfastError } from '../../../shared/errors.ts'
import { EXIT, type ExitStatus } from '../../../shared/exit-status.ts'
import type { Secret } from '../../../shared/secret.ts'
import type { JobView } from '../../api/schemas/jobs.ts'
import type { LockedKeysView, UnlockJob } from '../../api/schemas/unlock.ts'
import { type Cli, type CommonOptions, remote } from '../cli.ts'
import type { Run } from '../program.ts'
import { resolveJob } from '../resolve.ts'
import { sealForJob } from '../seal-for-job.ts'
import { showJob } from '../show-jobs.ts'
import { safe } from '../text.ts'
import { JOB_HELP } from './jobs.ts'

interface UnlockOptions extends CommonOptions {
  readonly identity: string
  readonly fingerprint?: string
}

export function unlockCommand(parent: Command, run: Run): void {
  remote(parent.command('unlock'))
    .summary('open, with a recovery key, what a job reads and the control plane cannot open')
    .description(
      'Opens the key files of the backup here, and seals each data key to the key of that one job: the recovery key and the data keys do not leave ' +
        'this machine. Compare the fingerprint with the one that "holdfast-agent jobs" shows on the host, before anything is opened.',
    )
    .argument('<job>', JOB_HELP)
    .requiredOption('--identity <file>', 'the recovery key: an age identity file')
    .option('--fingerprint <fingerprint>', 'as the host shows it; left out: asked for on a terminal')
    .action(run(unlock))
}

async function unlock(cli: Cli, id: string, options: UnlockOptions): Promise<ExitStatus> {
  const job = await resolveJob(cli.client, id)
  const locked = await cli.client.get<LockedKeysView>(`/api/v1/jobs/${job.id}/unlock`)
  await compare(cli, job, locked, options.fingerprint)
  const keys = await sealForJob(locked, await identities(cli, options.identity))
  const body: UnlockJob = { recipient: locked.unlock.recipient, keys }
  showJob(cli, await cli.client.send<JobView>('POST', `/api/v1/jobs/${job.id}/unlock`, body))
  return EXIT.done
}

/** Of what was asked for here and of what is to be sealed to: nothing that the control plane says about fingerprints counts. */
async function compare(cli: Cli, job: JobView, locked: LockedKeysView, given: string | undefined): Promise<void> {
  const fingerprint = jobKeyFingerprint({ jobId: job.id, backupId: locked.backup_id, recipient: locked.unlock.recipient })
  const sources = [...new Set(locked.backups.map((backup) => backup.source))].join(', ')
  const leans = locked.backups.length > 1 ? `, and ${locked.backups.length - 1} that it leans on` : ''
  const about = `${job.kind} ${job.id} on ${job.agent} reads ${locked.backup_id} of ${sources}${leans}`
  cli.io.err(`${safe(about)}\n`)
  const shown = given ?? (await asked(cli, job))
  if (sameFingerprint(shown, fingerprint)) return
  throw new HoldfastError(
    'pin_mismatch',
    `the host does not show the fingerprint ${fingerprint} for job ${job.id}: nothing was opened`,
    {
      hint: 'Type it once more. If the host really shows another one, somebody between it and you passes off a key as its own: look at the control plane.',
    },
  )
}

/** Typed, not nodded at: who has not looked at the host cannot go on. */
async function asked(cli: Cli, job: JobView): Promise<string> {
  if (cli.io.canAsk) return await cli.io.ask(`The fingerprint that "holdfast-agent jobs" shows on ${safe(job.agent)}: `)
  throw new HoldfastError('forbidden', 'this needs --fingerprint where nobody can be asked', {
    hint: `Run "holdfast-agent jobs" on ${job.agent}, and give the fingerprint that it shows.`,
  })
}

async function identities(cli: Cli, file: string): Promise<Secret[]> {
  const full = path.resolve(cli.io.cwd, file)
  const text = await readFile(full, 'utf8').catch((cause: unknown) => {
    throw new HoldfastError('not_found', `${JSON.stringify(full)} cannot be read`, {
      hint: 'Check the path and its rights.',
      cause,
    })
  })
  const found = parseIdentityFile(text)
  if (found.length > 0) return found
  throw new HoldfastError('invalid_argument', 'the identity file holds no age identity', {
    hint: 'Give the file that `holdfast keys new-recovery` printed: one of its lines begins with AGE-SECRET-KEY-1.',
  })
}
