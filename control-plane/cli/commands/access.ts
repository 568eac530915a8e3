import { existsSync } from 'node:fs'
import path from 'node:path'
import { type Command, Option } from 'commander'
import { newAgeIdentity, recipientOf } from '../../../shared/age/age.ts'
import { HoldfastError } from '../../../shared/errors.ts'
import { EXIT, type ExitStatus } from '../../../shared/exit-status.ts'
import type { ApiKeyView, AuditCheckView, AuditView, NewApiKeyView } from '../../api/schemas/access.ts'
import type { FleetKeysView } from '../../api/schemas/system.ts'
import { newRecoveryIdentity } from '../../fleet/recovery-identity.ts'
import { openKeyring } from '../../keys/keyring/keyring.ts'
import { type Cli, type CommonOptions, type Finish, remote } from '../cli.ts'
import { confirm } from '../confirm.ts'
import type { Io } from '../io.ts'
import { listAll } from '../list-all.ts'
import { type Format, printFacts, printJson, printTable } from '../print.ts'
import type { Run } from '../program.ts'
import { safe, timeText } from '../text.ts'
import { seconds } from './agents.ts'
import { collect, positiveInteger } from './create.ts'

export function accessCommands(parent: Command, run: Run, { io, finish }: { io: Io; finish: Finish }): void {
  const keys = remote(parent.command('api-keys')).summary('list, make and revoke the keys of operators').action(run(listKeys))
  remote(keys.command('list')).summary('list the keys').action(run(listKeys))
  remote(keys.command('create'))
    .summary('make a key, shown once')
    .argument('<name>')
    .addOption(new Option('--role <role>', 'what it may do').choices(['viewer', 'operator', 'admin']).default('viewer'))
    .option('--source <pattern>', 'only sources like host/name, with * for any run of characters; may be repeated', collect, [])
    .option('--valid <duration>', 'how long, for example 90d; left out: until it is revoked', seconds)
    .action(run(createKey))
  remote(keys.command('revoke'))
    .summary('refuse a key from now on')
    .argument('<id>')
    .option('--yes', 'do not ask')
    .action(run(revokeKey))
  const fleetKeys = remote(parent.command('keys'))
    .summary("show the fleet's public keys; make recovery keys")
    .action(run(showKeys))
  remote(fleetKeys.command('new-recovery'))
    .summary('make an identity that opens every backup from now on, to be kept offline')
    .description('Makes it here and prints it, once: redirect it into a file. The control plane learns its public part only.')
    .option('--first', 'before the first start of a control plane, without asking one')
    .action((options: CommonOptions & { first?: boolean }, command: Command) =>
      options.first
        ? firstRecovery(io, command.optsWithGlobals<CommonOptions>().format).then(finish)
        : run(newRecovery)(options, command),
    )
  fleetKeys
    .command('new-keyring')
    .summary('make the key file that control planes of one catalog share')
    .description(
      "Makes a keyring for keys.path of every control plane's server.yaml. Whoever has it and the catalog opens the fleet's keys.",
    )
    .argument('<file>')
    .action((file: string) => newKeyring(io, file).then(finish))
  remote(parent.command('audit'))
    .summary('show the audit trail, newest first')
    .addOption(new Option('--limit <n>', 'how many').argParser(positiveInteger).default(50))
    .option('--cursor <cursor>', 'next_cursor of the page before')
    .option('--actor <actor>', 'by this actor only, for example key:ci')
    .option('--action <action>', 'this action only, for example backup.delete')
    .option('--subject <subject>', 'about this only')
    .option('--verify', 'check the chain of the whole trail instead')
    .action(run(audit))
}

async function listKeys(cli: Cli): Promise<ExitStatus> {
  return await listAll<ApiKeyView>(cli, '/api/v1/api-keys', {}, (keys) =>
    printTable(
      cli.io,
      ['ID', 'NAME', 'ROLE', 'SOURCES', 'MADE BY', 'LAST USED', 'STATE'],
      keys.map((key) => [
        key.id,
        key.name,
        key.role,
        key.sources.join(' ') || 'all',
        key.created_by,
        timeText(key.last_used_at),
        key.revoked_at ? 'revoked' : key.expires_at ? `until ${timeText(key.expires_at)}` : 'valid',
      ]),
      'no keys',
    ),
  )
}

async function createKey(
  cli: Cli,
  name: string,
  options: { role: string; source: string[]; valid?: number },
): Promise<ExitStatus> {
  const key = await cli.client.send<NewApiKeyView>('POST', '/api/v1/api-keys', {
    name,
    role: options.role,
    sources: options.source,
    ...(options.valid === undefined ? {} : { valid_seconds: options.valid }),
  })
  if (cli.format === 'json') printJson(cli.io, key)
  else {
    cli.io.out(`${safe(key.key)}\n`)
    cli.io.err(`id ${safe(key.id)}, ${key.role}; this is the only time it is shown\n`)
  }
  return EXIT.done
}

async function revokeKey(cli: Cli, id: string, options: { yes?: boolean }): Promise<ExitStatus> {
  await confirm(cli.io, options.yes, `Refuse the key ${safe(id)} from now on?`)
  const key = await cli.client.send<ApiKeyView>('DELETE', `/api/v1/api-keys/${encodeURIComponent(id)}`)
  if (cli.format === 'json') printJson(cli.io, key)
  else cli.io.out(`${safe(key.id)}  ${safe(key.name)}  revoked\n`)
  return EXIT.done
}

async function showKeys(cli: Cli): Promise<ExitStatus> {
  const keys = await cli.client.get<FleetKeysView>('/api/v1/keys')
  if (cli.format === 'json') printJson(cli.io, keys)
  else {
    printFacts(cli.io, {
      fleet: keys.fleet_id,
      'verifying key': keys.verifying_key,
      'fleet recipient': keys.fleet_recipient,
      'recovery recipients': keys.recovery_recipients.join(' '),
    })
  }
  return EXIT.done
}

/** Made here, so that the control plane and the way to it never have the secret. */
async function newRecovery(cli: Cli): Promise<ExitStatus> {
  const { fleet_id, verifying_key } = await cli.client.get<FleetKeysView>('/api/v1/keys')
  const identity = await newRecoveryIdentity({ id: fleet_id, verifyingKeyText: verifying_key }, cli.io.clock.now())
  await cli.client.send<FleetKeysView>('POST', '/api/v1/keys/recovery', { recipient: identity.recipient })
  if (cli.format === 'json') printJson(cli.io, { recipient: identity.recipient, identity_file: identity.file.reveal() })
  else {
    cli.io.out(identity.file.reveal())
    cli.io.err(`recipient ${identity.recipient}: backups made from now on open with this identity; keep it offline\n`)
  }
  return EXIT.done
}

/** A fleet cannot be made without a recovery recipient, so the first identity is older than what it recovers. */
async function firstRecovery(io: Io, format: Format): Promise<ExitStatus> {
  const identity = await newAgeIdentity()
  const recipient = await recipientOf(identity)
  const lines = [
    '# Holdfast recovery identity. Keep it offline and away from the backups: it opens all of them.',
    `# created: ${io.clock.now().toISOString()}`,
    '# After the first start put a line here: "# verifying key: " and what "holdfast keys" shows.',
    `# public key: ${recipient}`,
    identity.reveal(),
  ]
  const file = `${lines.join('\n')}\n`
  if (format === 'json') printJson(io, { recipient, identity_file: file })
  else {
    io.out(file)
    io.err(`Put this into server.yaml:  recovery_recipients: [ ${recipient} ]\n`)
  }
  return EXIT.done
}

async function newKeyring(io: Io, file: string): Promise<ExitStatus> {
  const full = path.resolve(io.cwd, file)
  if (existsSync(full))
    throw new HoldfastError('already_exists', `${full} exists`, { hint: 'Choose another file: a keyring is never replaced.' })
  await openKeyring(full, { create: true })
  io.err(`${full} made; give it to every control plane of the catalog, and to nobody else\n`)
  return EXIT.done
}

interface AuditOptions {
  readonly limit: number
  readonly cursor?: string
  readonly actor?: string
  readonly action?: string
  readonly subject?: string
  readonly verify?: boolean
}

async function audit(cli: Cli, options: AuditOptions): Promise<ExitStatus> {
  if (options.verify) return await verifyAudit(cli)
  const { limit, cursor, actor, action, subject } = options
  const page = await cli.client.get<{ items: AuditView[]; next_cursor: string | null }>('/api/v1/audit', {
    limit,
    cursor,
    actor,
    action,
    subject,
  })
  if (cli.format === 'json') printJson(cli.io, page)
  else {
    printTable(
      cli.io,
      ['NUMBER', 'AT', 'ACTOR', 'ACTION', 'SUBJECT', 'OUTCOME'],
      page.items.map((entry) => [
        String(entry.sequence),
        timeText(entry.at),
        entry.actor,
        entry.action,
        entry.subject,
        entry.outcome,
      ]),
      'no entries',
    )
    if (page.next_cursor !== null) cli.io.err(`more: --cursor ${safe(page.next_cursor)}\n`)
  }
  return EXIT.done
}

async function verifyAudit(cli: Cli): Promise<ExitStatus> {
  const check = await cli.client.get<AuditCheckView>('/api/v1/audit/verify')
  if (cli.format === 'json') printJson(cli.io, check)
  else {
    for (const error of check.errors) cli.io.out(`${error.sequence}  ${safe(error.message)}\n`)
    cli.io.out(`${check.entries} entries, ${check.valid ? 'the chain holds' : 'the chain is BROKEN'}\n`)
  }
  return check.valid ? EXIT.done : EXIT.failed
}
