import { parse } from 'yaml'
import { HoldfastError } from '../../shared/errors.ts'

/** HOLDFAST_* variables as a tree like server.yaml's; they win over the file. */

type Value = (text: string) => unknown
const text: Value = (value) => value
const number: Value = (value) => (/^\d{1,9}$/.test(value) ? Number(value) : value)
const list: Value = (value) =>
  value
    .split(',')
    .map((item) => item.trim())
    .filter((item) => item !== '')
/** YAML, and so JSON as well. */
const tree: Value = (value) => parse(value, { maxAliasCount: 0 })

export const VARIABLES: Readonly<Record<string, readonly [path: string, value: Value]>> = {
  HOLDFAST_HOME: ['home', text],
  HOLDFAST_CATALOG: ['catalog', text],
  HOLDFAST_ADVERTISE: ['advertise', list],
  HOLDFAST_LISTEN_API: ['listen.api', text],
  HOLDFAST_LISTEN_AGENTS: ['listen.agents', text],
  HOLDFAST_LISTEN_ENROLMENT: ['listen.enrolment', text],
  HOLDFAST_LISTEN_OBJECTS: ['listen.objects', text],
  HOLDFAST_TLS_CERT: ['listen.tls.cert', text],
  HOLDFAST_TLS_KEY: ['listen.tls.key', text],
  HOLDFAST_TARGETS: ['targets', tree],
  HOLDFAST_DEFAULT_TARGET: ['default_target', text],
  HOLDFAST_KEYS_SERVICE: ['keys.service', text],
  HOLDFAST_KEYS_PATH: ['keys.path', text],
  HOLDFAST_RECOVERY_RECIPIENTS: ['recovery_recipients', list],
  HOLDFAST_PARALLEL_JOBS: ['parallel_jobs', number],
  HOLDFAST_PARALLEL_JOBS_PER_AGENT: ['parallel_jobs_per_agent', number],
  HOLDFAST_UNLOCK_WAIT: ['unlock_wait', text],
  HOLDFAST_METRICS: ['metrics', text],
  HOLDFAST_LOG_LEVEL: ['log_level', text],
}
/** Of the command line, the agent and the tests. */
const OTHERS = /^HOLDFAST_(CONFIG|URL|API_KEY|TEST_.*|AGENT_.*)$/

export type Tree = { [key: string]: unknown }

export function fromEnvironment(environment: Readonly<Record<string, string | undefined>>): Tree {
  const found: Tree = {}
  for (const [name, value] of Object.entries(environment)) {
    if (!name.startsWith('HOLDFAST_') || value === undefined || OTHERS.test(name)) continue
    const variable = VARIABLES[name]
    if (!variable) {
      throw new HoldfastError('invalid_config', `the variable ${name} is not known`, {
        hint: `Known ones are ${Object.keys(VARIABLES).join(', ')}.`,
      })
    }
    const [path, read] = variable
    set(found, path.split('.'), readValue(name, value, read))
  }
  return found
}

function readValue(name: string, value: string, read: Value): unknown {
  try {
    return read(value)
  } catch (cause) {
    throw new HoldfastError('invalid_config', `the variable ${name} is not valid YAML`, {
      hint: 'Write it as one line of YAML or JSON, for example {primary: {kind: s3, bucket: acme-backups}}.',
      cause,
    })
  }
}

function set(tree: Tree, [first = '', ...rest]: readonly string[], value: unknown): void {
  if (rest.length === 0) tree[first] = value
  else set((tree[first] ??= {}) as Tree, rest, value)
}

/** `over` wins; maps are merged, everything else is replaced. */
export function merged(under: Tree, over: Tree): Tree {
  const out: Tree = { ...under }
  for (const [key, value] of Object.entries(over)) {
    const below = out[key]
    out[key] = isTree(below) && isTree(value) ? merged(below, value) : value
  }
  return out
}

export function isTree(value: unknown): value is Tree {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
