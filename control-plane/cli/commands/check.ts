import { type Command, InvalidArgumentError } from 'commander'
import { isHoldfastError } from '../../../shared/errors.ts'
import { EXIT, type ExitStatus } from '../../../shared/exit-status.ts'
import { parseDuration } from '../../../shared/units.ts'
import type { ValidationView } from '../../api/schemas/backups.ts'
import type { JobView } from '../../api/schemas/jobs.ts'
import type { SystemTestView } from '../../api/schemas/system.ts'
import { type Cli, remote } from '../cli.ts'
import { sourceName } from '../known-source.ts'
import { printJson } from '../print.ts'
import type { Run } from '../program.ts'
import { resolveBackup } from '../resolve.ts'
import { safe } from '../text.ts'
import { ID_HELP } from './backups.ts'
import { conclude } from './create.ts'

interface WaitOptions {
  readonly watch?: boolean
  readonly wait: boolean
}

export function checkCommands(parent: Command, run: Run): void {
  remote(parent.command('validate'))
    .summary('check that a backup is complete: presence, checksums, signature, samples')
    .argument('<backup>', ID_HELP)
    .action(run(validate))
  waiting(
    remote(parent.command('verify'))
      .summary('read a backup back and compare: every byte, or within a budget')
      .argument('<backup>', ID_HELP),
  )
    .option('--on <host>', 'the host that does it')
    .option('--older-than <duration>', 'only packs that were not verified for so long, such as 30d', duration)
    .option('--share <percent>', 'only so much of the bytes of packs, the least recently verified first, such as 10%', share)
    .option('--plan', 'only show how much would be read')
    .action(run(verify))
  waiting(
    remote(parent.command('test-restore'))
      .summary('restore into a throw-away place and compare counts')
      .argument('<backup>', ID_HELP),
  )
    .option('--via <host/name>', 'the source beside which the throw-away place is made', sourceName)
    .action(run(testRestore))
  remote(parent.command('test')).summary('is everything that a backup needs in order?').action(run(systemTest))
}

const waiting = (command: Command) =>
  command.option('--watch', 'show progress').option('--no-wait', 'return as soon as the job is accepted')

async function validate(cli: Cli, id: string): Promise<ExitStatus> {
  const backup = await resolveBackup(cli.client, id)
  const answer = await cli.client.get<ValidationView | JobView>(`/api/v1/backups/${backup.id}/validate`)
  if ('id' in answer) return await conclude(cli, answer, { wait: true })
  if (cli.format === 'json') printJson(cli.io, answer)
  else {
    cli.io.out(`${backup.id}  ${answer.valid ? 'valid' : 'NOT VALID'}\n`)
    for (const error of answer.details) cli.io.out(`${safe(`${error.code}  ${error.object ?? ''}  ${error.message}`)}\n`)
    for (const what of answer.not_checked) cli.io.out(`not checked  ${safe(what)}\n`)
  }
  return answer.valid ? EXIT.done : EXIT.failed
}

interface VerifyOptions extends WaitOptions {
  readonly on?: string
  readonly olderThan?: number
  readonly share?: number
  readonly plan?: boolean
}

function duration(text: string): number {
  try {
    return parseDuration(text)
  } catch (error) {
    if (!isHoldfastError(error)) throw error
    throw new InvalidArgumentError(`${error.message}. ${error.hint ?? ''}`)
  }
}

function share(text: string): number {
  const percent = Number(/^(\d{1,3}(?:\.\d)?)%?$/.exec(text)?.[1])
  if (percent >= 0.1 && percent <= 100) return percent
  throw new InvalidArgumentError('It has to be from 0.1% to 100%, with one digit after the point at most.')
}

async function verify(cli: Cli, id: string, options: VerifyOptions): Promise<ExitStatus> {
  const backup = await resolveBackup(cli.client, id)
  const body = {
    ...(options.on === undefined ? {} : { on: options.on }),
    ...(options.olderThan === undefined ? {} : { older_than_seconds: options.olderThan }),
    ...(options.share === undefined ? {} : { share_percent: options.share }),
    ...(options.plan ? { dry_run: true } : {}),
  }
  return await conclude(cli, await cli.client.send<JobView>('POST', `/api/v1/backups/${backup.id}/verify`, body), options)
}

async function testRestore(cli: Cli, id: string, options: WaitOptions & { via?: string }): Promise<ExitStatus> {
  const backup = await resolveBackup(cli.client, id)
  const body = options.via === undefined ? {} : { via: options.via }
  return await conclude(cli, await cli.client.send<JobView>('POST', `/api/v1/backups/${backup.id}/test-restore`, body), options)
}

async function systemTest(cli: Cli): Promise<ExitStatus> {
  const answer = await cli.client.send<SystemTestView>('POST', '/api/v1/system/test')
  if (cli.format === 'json') printJson(cli.io, answer)
  else {
    for (const finding of answer.findings) {
      cli.io.out(`${finding.severity.padEnd(7)}  ${safe(finding.subject ?? '')}  ${safe(finding.message)}\n`)
      if (finding.hint) cli.io.out(`         ${safe(finding.hint)}\n`)
    }
    cli.io.out(answer.ok ? 'everything that a backup needs is in order\n' : 'NOT in order\n')
  }
  return answer.ok ? EXIT.done : EXIT.failed
}
