import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { z } from 'zod'
import { HoldfastError } from '../../shared/errors.ts'
import { Secret } from '../../shared/secret.ts'
import type { TargetConfig } from '../../shared/storage/config.ts'
import { readYaml } from '../../shared/yaml.ts'
import type { CatalogConfig } from '../catalog/open.ts'
import { type Policy, policySchema } from '../domain/policy.ts'
import { fromEnvironment, isTree, merged, type Tree } from './environment.ts'
import { olderPolicy, olderVariables } from './older-variables.ts'
import { type ServerFile, serverConfigSchema } from './schema.ts'

export interface Endpoint {
  readonly host: string
  readonly port: number
}

/** Compiled once at the start: paths absolute, ports resolved, secrets in their type. */
export interface ServerConfig {
  readonly home: string
  readonly catalog: CatalogConfig
  /** The first stands in invitations; all stand in the server certificates. */
  readonly advertise: readonly string[]
  readonly listen: { readonly api: Endpoint; readonly agents: Endpoint; readonly enrolment: Endpoint; readonly objects: Endpoint }
  readonly tls: { readonly cert: string; readonly key: Secret } | null
  readonly targets: Readonly<Record<string, TargetConfig>>
  readonly defaultTarget: string
  readonly keyring: { readonly path: string; readonly shared: boolean }
  readonly recoveryRecipients: readonly string[]
  readonly parallelJobs: number
  readonly parallelJobsPerAgent: number
  readonly unlockSeconds: number
  readonly whoScrapes: 'anyone' | 'viewer'
  readonly logLevel: ServerFile['log_level']
  /** What BACKUP_SCHEDULE and BACKUP_RETENTION_DAYS ask for, where the file names no target: kept as the policy `backup`. */
  readonly olderPolicy: Policy | null
}

const MAX_FILE_BYTES = 1024 * 1024

/**
 * server.yaml (none: defaults), then the older BACKUP_* variables where the file names no target, then HOLDFAST_* variables,
 * then `over` (command line). Throws `invalid_config` naming the setting.
 */
export async function loadServerConfig(options: {
  file?: string
  environment: Readonly<Record<string, string | undefined>>
  /** Relative paths are taken from the file's folder; those of variables and options from here. */
  cwd: string
  over?: Tree
}): Promise<ServerConfig> {
  const { file, environment, cwd, over = {} } = options
  const written = file === undefined ? {} : absolute(await readTree(file), path.dirname(path.resolve(cwd, file)))
  const older = isTree(written.targets) ? {} : olderVariables(environment)
  const given = [older, fromEnvironment(environment), over].map((tree) => absolute(tree, cwd))
  const parsed = serverConfigSchema.safeParse(given.reduce(merged, written))
  if (!parsed.success) {
    throw new HoldfastError(
      'invalid_config',
      `the configuration${file ? ` ${file}` : ''} is not valid: ${z.prettifyError(parsed.error)}`,
      {
        hint: 'Correct the settings named; docs/configuration.md lists all of them.',
      },
    )
  }
  const config = await compile(parsed.data, cwd)
  return { ...config, olderPolicy: isTree(written.targets) ? null : policyOf(olderPolicy(environment, config.defaultTarget)) }
}

function policyOf(tree: Tree | null): Policy | null {
  if (tree === null) return null
  const parsed = policySchema.safeParse(tree)
  if (parsed.success) return parsed.data
  throw new HoldfastError('invalid_config', `BACKUP_SCHEDULE is not understood: ${z.prettifyError(parsed.error)}`, {
    hint: 'Write it as cron does, for example "0 2 * * *".',
  })
}

async function readTree(file: string): Promise<Tree> {
  const value = readYaml({ name: file, text: await readText(file, 'the configuration') }) ?? {}
  if (isTree(value)) return value
  throw new HoldfastError('invalid_config', `${file} does not hold settings`, { hint: 'Write it as "name: value" lines.' })
}

async function readText(file: string, what: string): Promise<string> {
  try {
    const bytes = await readFile(file)
    if (bytes.length <= MAX_FILE_BYTES) return bytes.toString('utf8')
  } catch (cause) {
    throw new HoldfastError('invalid_config', `${what} ${file} cannot be read`, {
      hint: 'Check the path and its permissions.',
      cause,
    })
  }
  throw new HoldfastError('invalid_config', `${what} ${file} is larger than 1 MiB`)
}

const PATHS = [['home'], ['keys', 'path'], ['listen', 'tls', 'cert'], ['listen', 'tls', 'key']]

/** The same tree with its paths absolute. */
function absolute(tree: Tree, folder: string): Tree {
  const copy = structuredClone(tree)
  const resolve = (holder: unknown, key: string) => {
    if (isTree(holder) && typeof holder[key] === 'string') holder[key] = path.resolve(folder, holder[key])
  }
  for (const names of PATHS) {
    const last = names.at(-1) ?? ''
    resolve(
      names.slice(0, -1).reduce<unknown>((holder, name) => (isTree(holder) ? holder[name] : undefined), copy),
      last,
    )
  }
  if (isTree(copy.targets)) for (const target of Object.values(copy.targets)) resolve(target, 'path')
  return copy
}

async function compile(file: ServerFile, cwd: string): Promise<Omit<ServerConfig, 'olderPolicy'>> {
  const home = path.resolve(cwd, file.home)
  const catalog: CatalogConfig =
    file.catalog === 'embedded'
      ? { kind: 'embedded', folder: path.join(home, 'catalog') }
      : { kind: 'postgres', url: new Secret(file.catalog) }
  const shared = catalog.kind === 'postgres'
  if (shared) refuseOneNodesDisk(file)
  // the quickstart's own layout, for who has named no target yet
  const named = Object.keys(file.targets).length > 0
  const targets = named || shared ? file.targets : { primary: { kind: 'local' as const, path: path.join(home, 'store') } }
  const { tls } = file.listen
  const listen = endpoints(file.listen)
  return {
    home,
    catalog,
    advertise: file.advertise === undefined ? [reachable(listen.agents.host)] : [file.advertise].flat(),
    listen,
    tls: tls
      ? { cert: await readText(tls.cert, 'the certificate'), key: new Secret(await readText(tls.key, 'the private key')) }
      : null,
    targets,
    defaultTarget: defaultTarget(file, Object.keys(targets)),
    keyring: { path: file.keys.path ?? path.join(home, 'keyring'), shared },
    recoveryRecipients: file.recovery_recipients,
    parallelJobs: file.parallel_jobs,
    parallelJobsPerAgent: file.parallel_jobs_per_agent,
    unlockSeconds: file.unlock_wait,
    whoScrapes: (file.metrics ?? (isLoopback(listen.api.host) ? 'anyone' : 'key')) === 'anyone' ? 'anyone' : 'viewer',
    logLevel: file.log_level,
  }
}

/** Several control planes may share a catalog on a server; what lies on the disk of one, the others would miss. */
function refuseOneNodesDisk(file: ServerFile): void {
  const local = Object.entries(file.targets).find(([, target]) => target.kind === 'local')
  if (local) {
    throw new HoldfastError('invalid_config', `target ${local[0]} lies on one machine's disk while the catalog is shared`, {
      hint: 'Use an S3 target, or the embedded catalog.',
    })
  }
  if (file.keys.path === undefined) {
    throw new HoldfastError('invalid_config', "the keyring lies on one machine's disk while the catalog is shared", {
      hint: 'Set keys.path to a file that every control plane of this catalog has, for example on a mounted secret.',
    })
  }
}

function defaultTarget(file: ServerFile, names: readonly string[]): string {
  const [first] = names
  if (first === undefined) {
    throw new HoldfastError('invalid_config', 'no target is configured, so that no backup could be stored', {
      hint: 'Name one under targets, for example primary: { kind: s3, bucket: acme-backups, region: eu-central-1 }.',
    })
  }
  if (file.default_target === undefined) return first
  if (names.includes(file.default_target)) return file.default_target
  throw new HoldfastError('invalid_config', `default_target ${file.default_target} is not one of the targets`, {
    hint: 'Name one of the targets that are configured.',
  })
}

function endpoints(listen: ServerFile['listen']): ServerConfig['listen'] {
  const agents = endpoint(listen.agents)
  const after = (offset: number): Endpoint => ({ host: agents.host, port: agents.port === 0 ? 0 : agents.port + offset })
  return {
    api: endpoint(listen.api),
    agents,
    enrolment: listen.enrolment === undefined ? after(1) : endpoint(listen.enrolment),
    objects: listen.objects === undefined ? after(2) : endpoint(listen.objects),
  }
}

function endpoint(text: string): Endpoint {
  const colon = text.lastIndexOf(':')
  return { host: text.slice(0, colon).replace(/^\[|\]$/g, ''), port: Number(text.slice(colon + 1)) }
}

const isLoopback = (host: string) => /^(localhost|127(\.\d{1,3}){3}|::1)$/.test(host)
/** An address that means "all of them" is no name to be reached by. */
const reachable = (host: string) => (host === '0.0.0.0' || host === '::' ? '127.0.0.1' : host)
