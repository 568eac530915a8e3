import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { type Command, InvalidArgumentError, Option } from 'commander'
import { HoldfastError } from '../../../shared/errors.ts'
import { EXIT, type ExitStatus } from '../../../shared/exit-status.ts'
import { parseDuration } from '../../../shared/units.ts'
import type { AgentView, InvitationView, SourceView } from '../../api/schemas/agents.ts'
import type { JobView } from '../../api/schemas/jobs.ts'
import { type Cli, remote } from '../cli.ts'
import { confirm } from '../confirm.ts'
import { listAll } from '../list-all.ts'
import { printJson, printTable } from '../print.ts'
import type { Run } from '../program.ts'
import { durationText, safe, sizeText, timeText } from '../text.ts'
import { conclude } from './create.ts'

export function agentCommands(parent: Command, run: Run): void {
  const agents = remote(parent.command('agents'))
    .summary('list the hosts that enrolled; invite and revoke them')
    .option('--all', 'revoked and replaced ones too')
    .action(run(list))
  remote(agents.command('list'))
    .summary('list them, as `agents` alone does')
    .option('--all', 'revoked and replaced ones too')
    .action(run(list))
  remote(agents.command('invite'))
    .summary('make a token with which a host can enrol, once')
    .argument('[name]', 'name of the host')
    .option('--from <file>', 'a file with one name a line, for many')
    .addOption(new Option('--valid <duration>', 'how long, for example 15m or 24h').argParser(seconds).default(900, '15m'))
    .option('--replace', 'the agent that has the name now loses its identity')
    .action(run(invite))
  remote(agents.command('revoke'))
    .summary('refuse an agent from now on; its backups remain')
    .argument('<name>')
    .option('--reason <text>', 'kept with the agent and in the audit trail')
    .option('--yes', 'do not ask')
    .action(run(revoke))
  remote(agents.command('discover'))
    .summary('look what is on a host that could be backed up')
    .argument('<name>')
    .option('--no-wait', 'return as soon as the job is accepted')
    .action(run(discover))
  remote(parent.command('sources')).summary('list what agents can back up').action(run(sources))
}

/** A duration as in the configuration, in seconds. */
export function seconds(text: string): number {
  try {
    return parseDuration(text)
  } catch {
    throw new InvalidArgumentError('Write a number and s, m, h, d or w, for example 24h.')
  }
}

async function list(cli: Cli, options: { all?: boolean }): Promise<ExitStatus> {
  return await listAll<AgentView>(cli, '/api/v1/agents', { all: options.all }, (agents) =>
    printTable(
      cli.io,
      ['AGENT', 'STATE', 'VERSION', 'LAST SEEN', 'SOURCES', 'CERTIFICATE UNTIL'],
      agents.map((agent) => [
        agent.name,
        standing(agent),
        agent.version ?? '-',
        timeText(agent.last_seen_at),
        agent.sources.join(' '),
        timeText(agent.certificate?.not_after),
      ]),
      'no agents; invite one with "holdfast agents invite NAME"',
    ),
  )
}

const standing = ({ state, state_reason: reason, connected }: AgentView): string => {
  if (state === 'active') return connected ? 'connected' : 'away'
  return reason ? `${state}: ${reason}` : state
}

async function invite(
  cli: Cli,
  name: string | undefined,
  options: { from?: string; valid: number; replace?: boolean },
): Promise<ExitStatus> {
  const names = await invited(cli, name, options.from)
  const invitations: InvitationView[] = []
  for (const one of names) {
    const body = { name: one, valid_seconds: options.valid, ...(options.replace ? { replace: true } : {}) }
    const invitation = await cli.client.send<InvitationView>('POST', '/api/v1/agents/invitations', body)
    invitations.push(invitation)
    if (cli.format === 'table') {
      // on a line of its own, so that the whole line of the answer can be pasted
      cli.io.out(`${safe(invitation.command)}\n`)
      cli.io.err(`valid ${durationText(options.valid)}, once\n`)
    }
  }
  if (cli.format === 'json')
    printJson(cli.io, options.from === undefined ? invitations[0] : { items: invitations, next_cursor: null })
  return EXIT.done
}

async function invited(cli: Cli, name: string | undefined, from: string | undefined): Promise<string[]> {
  if ((name === undefined) === (from === undefined)) {
    throw new HoldfastError('invalid_argument', 'give the name of one host, or --from FILE for many')
  }
  if (name !== undefined) return [name]
  const text = await readFile(path.resolve(cli.io.cwd, from ?? ''), 'utf8').catch((cause: unknown) => {
    throw new HoldfastError('invalid_argument', `${from} cannot be read`, {
      hint: 'Give a file with one host name a line.',
      cause,
    })
  })
  const names = text.split('\n').map((line) => line.replace(/#.*/, '').trim())
  return names.filter((line) => line !== '')
}

/** They are signed for the store, which knows nothing of agents. */
const ADDRESSES_LAST = 'Addresses of objects that it was already given work until they expire, in at most 15 minutes'

async function revoke(cli: Cli, name: string, options: { reason?: string; yes?: boolean }): Promise<ExitStatus> {
  await confirm(cli.io, options.yes, `Refuse the agent ${safe(name)} from now on? ${ADDRESSES_LAST}.`)
  const body = options.reason === undefined ? {} : { reason: options.reason }
  const agent = await cli.client.send<AgentView>('POST', `/api/v1/agents/${encodeURIComponent(name)}/revoke`, body)
  if (cli.format === 'json') printJson(cli.io, agent)
  else cli.io.out(`${safe(agent.name)}  ${agent.state}\n`)
  cli.io.err(`${ADDRESSES_LAST}\n`)
  return EXIT.done
}

async function discover(cli: Cli, name: string, options: { wait: boolean }): Promise<ExitStatus> {
  const job = await cli.client.send<JobView>('POST', `/api/v1/agents/${encodeURIComponent(name)}/discover`)
  return await conclude(cli, job, options)
}

async function sources(cli: Cli): Promise<ExitStatus> {
  return await listAll<SourceView>(cli, '/api/v1/sources', {}, (found) =>
    printTable(
      cli.io,
      ['SOURCE', 'ENGINE', 'STATE', 'POLICIES', 'LAST GOOD BACKUP', 'AT', 'WHAT'],
      found.map((source) => [
        source.source,
        source.engine,
        stateOf(source),
        source.policies.join(' ') || '-',
        source.last_good_id ?? '-',
        timeText(source.last_good_at),
        factsText(source.facts),
      ]),
      'no sources; add one on a host with "holdfast-agent source add"',
    ),
  )
}

function stateOf({ present, connected, facts }: SourceView): string {
  if (!present) return 'no longer configured'
  if (!connected) return 'away'
  return 'unreachable' in facts ? 'unreachable' : 'connected'
}

/** As the agent last saw the store. */
const factsText = (facts: Readonly<Record<string, string>>): string =>
  Object.entries(facts)
    .map(([name, value]) =>
      name === 'size_bytes' ? sizeText(Number(value)) : name === 'unreachable' ? value : `${name} ${value}`,
    )
    .join(', ')
