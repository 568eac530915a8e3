import { readFile } from 'node:fs/promises'
import path from 'node:path'
import type { Command } from 'commander'
import { HoldfastError } from '../../../shared/errors.ts'
import { EXIT, type ExitStatus } from '../../../shared/exit-status.ts'
import { readYaml } from '../../../shared/yaml.ts'
import type { FleetDiffView, PolicyView, TargetView } from '../../api/schemas/fleet.ts'
import type { StatusView } from '../../api/schemas/system.ts'
import { SEALED_TO_RECOVERY } from '../../domain/policy-findings.ts'
import { type Cli, remote } from '../cli.ts'
import { listAll } from '../list-all.ts'
import { printJson, printTable } from '../print.ts'
import type { Run } from '../program.ts'
import { durationText, safe, timeText } from '../text.ts'

export function fleetCommands(parent: Command, run: Run): void {
  remote(parent.command('status')).summary('what is protected and what is not, on one screen').action(run(status))
  remote(parent.command('diff'))
    .summary('show what applying a fleet file would change')
    .requiredOption('-f, --file <file>', 'fleet.yaml')
    .action(run((cli: Cli, options: { file: string }) => fleet(cli, options.file, false)))
  remote(parent.command('apply'))
    .summary('make targets, policies and schedules as a fleet file says')
    .requiredOption('-f, --file <file>', 'fleet.yaml')
    .action(run((cli: Cli, options: { file: string }) => fleet(cli, options.file, true)))
  remote(parent.command('targets')).summary('list where backups lie').action(run(targets))
  remote(parent.command('policies')).summary('list what is backed up when, and how long it is kept').action(run(policies))
}

async function status(cli: Cli): Promise<ExitStatus> {
  const answer = await cli.client.get<StatusView>('/api/v1/status')
  if (cli.format === 'json') {
    printJson(cli.io, answer)
    return EXIT.done
  }
  const { agents, jobs } = answer
  cli.io.out(`holdfast ${safe(answer.version)}   agents ${agents.connected} of ${agents.total} connected   `)
  cli.io.out(`jobs ${jobs.running} running, ${jobs.queued} queued\n`)
  const checks = answer.sources.map((source) => [
    checkedText(source, source.verified_at, source.own_verified_at),
    checkedText(source, source.test_restored_at, source.own_test_restored_at),
  ])
  printTable(
    cli.io,
    ['SOURCE', 'PROTECTED', 'LAST GOOD', 'VERIFIED', 'TEST-RESTORED', '3-2-1', 'LAST FAILURE'],
    answer.sources.map((source, at) => [
      source.source,
      source.protected ? 'yes' : 'NO',
      source.age_seconds === null ? 'never' : `${durationText(source.age_seconds)} ago`,
      ...(checks[at] ?? []),
      `${source.three_two_one.copies}-${source.three_two_one.kinds}-${source.three_two_one.elsewhere}${source.three_two_one.met ? '' : ' NOT met'}`,
      source.last_failure === null ? '' : `${timeText(source.last_failure.at)} ${source.last_failure.code}`,
    ]),
    'no sources',
  )
  if (checks.flat().includes(OWN_HOST)) for (const line of OWN_HOST_NOTE) cli.io.err(`${line}\n`)
  const sealed = answer.sources.filter((source) => source.recipients === 'recovery').map((source) => source.source)
  if (sealed.length > 0) cli.io.err(`${safe(sealed.join(', '))}: ${SEALED_TO_RECOVERY}\n`)
  return EXIT.done
}

const OWN_HOST = 'own host only'
/** For whoever has just verified, and sees nothing of it. */
const OWN_HOST_NOTE = [
  `${OWN_HOST}: a backup counts as verified or test-restored when another host than the one that made it has done it`,
  '  holdfast verify BACKUP --on HOST, holdfast test-restore BACKUP --via HOST/NAME; a further host: holdfast agents invite HOST',
]

/** What only a person can do is not missing because a schedule is. */
function checkedText(source: StatusView['sources'][number], at: string | null, own: string | null): string {
  if (at !== null) return timeText(at)
  if (own !== null) return OWN_HOST
  return source.recipients === 'recovery' ? 'by hand only' : timeText(at)
}

async function fleet(cli: Cli, file: string, apply: boolean): Promise<ExitStatus> {
  const body = await readFleetFile(path.resolve(cli.io.cwd, file))
  const answer = apply
    ? await cli.client.send<FleetDiffView>('PUT', '/api/v1/fleet', body)
    : await cli.client.send<FleetDiffView>('POST', '/api/v1/fleet/diff', body)
  if (cli.format === 'json') {
    printJson(cli.io, answer)
    return EXIT.done
  }
  const signs = { create: '+', update: '~', delete: '-' } as const
  for (const change of answer.changes) {
    cli.io.out(`${signs[change.action]} ${change.kind} ${safe(change.name)}\n`)
    for (const field of change.fields) {
      const before = change.action === 'create' ? '' : `${valueText(field.from)} -> `
      const what = field.path === '' ? '' : `${safe(field.path)}: `
      cli.io.out(`    ${what}${before}${valueText(field.to)}\n`)
    }
  }
  for (const finding of answer.findings) {
    cli.io.err(`${finding.severity}: ${safe(finding.message)}\n`)
    if (finding.hint) cli.io.err(`  ${safe(finding.hint)}\n`)
  }
  cli.io.out(
    answer.changes.length === 0 ? 'nothing changes\n' : `${answer.changes.length} ${apply ? 'changed' : 'would change'}\n`,
  )
  return EXIT.done
}

const valueText = (value: unknown) => (value === undefined || value === null ? '(none)' : safe(JSON.stringify(value)))

async function readFleetFile(file: string): Promise<unknown> {
  const text = await readFile(file, 'utf8').catch((cause: unknown) => {
    throw new HoldfastError('invalid_argument', `${file} cannot be read`, { hint: 'Give the path of a fleet.yaml.', cause })
  })
  return readYaml({ name: file, text, code: 'invalid_argument', aliases: 100 })
}

async function targets(cli: Cli): Promise<ExitStatus> {
  return await listAll<TargetView>(cli, '/api/v1/targets', {}, (found) =>
    printTable(
      cli.io,
      ['TARGET', 'KIND', 'CONFIGURATION', 'PROBED'],
      found.map((target) => [target.name, target.kind, JSON.stringify(target.config), timeText(target.probed_at)]),
      'no targets',
    ),
  )
}

async function policies(cli: Cli): Promise<ExitStatus> {
  return await listAll<PolicyView>(cli, '/api/v1/policies', {}, (found) =>
    printTable(
      cli.io,
      ['POLICY', 'REVISION', 'SOURCES', 'CHANGED', 'SPEC'],
      found.map((policy) => [
        policy.name,
        String(policy.revision),
        policy.sources.join(' ') || '-',
        timeText(policy.updated_at),
        JSON.stringify(policy.spec),
      ]),
      'no policies; write a fleet.yaml and apply it',
    ),
  )
}
