import type { Command } from 'commander'
import { EXIT, type ExitStatus } from '../../../shared/exit-status.ts'
import type { ValidationView } from '../../api/schemas/backups.ts'
import type { JobView } from '../../api/schemas/jobs.ts'
import type { SystemTestView } from '../../api/schemas/system.ts'
import { type Cli, remote } from '../cli.ts'
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
  waiting(remote(parent.command('verify')).summary('read every byte of a backup back and compare').argument('<backup>', ID_HELP))
    .option('--on <host>', 'the host that does it')
    .action(run(verify))
  waiting(
    remote(parent.command('test-restore'))
      .summary('restore into a throw-away place and compare counts')
      .argument('<backup>', ID_HELP),
  )
    .option('--via <host/name>', 'the source beside which the throw-away place is made')
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

async function verify(cli: Cli, id: string, options: WaitOptions & { on?: string }): Promise<ExitStatus> {
  const backup = await resolveBackup(cli.client, id)
  const body = options.on === undefined ? {} : { on: options.on }
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
