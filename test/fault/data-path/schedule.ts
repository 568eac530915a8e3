import type { Fault as LineFault } from '../../harness/fault-proxy.ts'
import { seeded } from '../../harness/seeded.ts'
import type { Call, How } from './disk-faults.ts'

/** What one seed of the data path does: drawn from its number alone. Every fault strikes at a counted event, none at a time. */

export type Kind = 'backup' | 'restore'

/** SIGKILL of a job's process, or of the agent that started it. `stored`: the store has it and nobody was told. */
export interface Kill {
  readonly kind: 'kill'
  readonly who: 'job' | 'agent'
  readonly when: 'put' | 'stored' | 'get' | 'signPuts' | 'signGets' | 'openBackups' | 'commitBackup' | 'committed'
  readonly at: number
}

/** Where a disk fails: the folders of agent and store, the source, the place of a restore. */
export const PLACES = ['journal', 'known', 'scratch', 'source', 'store', 'place'] as const
export type Place = (typeof PLACES)[number]

export interface DiskFault {
  readonly kind: 'disk'
  readonly where: Place
  readonly call: Call
  readonly how: How
  readonly at: number
  readonly times: number
}

export const LINES = [
  ...['status', 'lose-reply', 'cut-request', 'cut-reply', 'flip-request', 'slow'],
  ...['hold-reply', 'request-twice', 'reply-twice', 'stale-reply'],
] as const
export type Line = (typeof LINES)[number] & LineFault['kind']

/** The requests that meet it: from this one on so many, each `every`-th. */
export interface BadLine {
  readonly kind: 'line'
  readonly what: Line
  readonly status: number
  readonly at: number
  readonly times: number
  readonly afterBytes: number
}

export type Fault = Kill | DiskFault | BadLine

export interface Step {
  readonly kind: Kind
  readonly type: 'full' | 'incremental' | 'differential'
  /** Of the source, before this step and, where it is backed up again, between its attempts. */
  readonly change: boolean
  readonly changeBetween: boolean
  /** Of a restore: into a place where a tree lies that is much like it. */
  readonly over?: boolean
  /** One for each attempt; those after them meet none. */
  readonly faults: readonly Fault[]
}

export const SOURCES = ['small tree', 'many files', 'tree', 'database'] as const
export type SourceKind = (typeof SOURCES)[number]

export interface Schedule {
  readonly seed: number
  readonly source: SourceKind
  /** Of the tree, in packs of 16 MiB. */
  readonly packs: number
  readonly steps: readonly Step[]
}

type Pick = <T>(of: readonly T[]) => T

export function scheduleOf(seed: number): Schedule {
  const random = seeded(seed ^ 0xda7a)
  const pick: Pick = (of) => of[Math.floor(random() * of.length)] as never
  const source = pick<SourceKind>(['small tree', 'small tree', 'many files', 'many files', 'tree', 'database'])
  const packs = source === 'tree' ? pick([1, 1, 2, 2, 3, 4]) : 0
  const faultsOf = (kind: Kind, most: number): Fault[] => {
    const count = pick([0, 1, 1, 1, 1, 2].filter((n) => n <= most))
    return Array.from({ length: count }, () => faultOf(kind, { random, pick, packs }))
  }
  const backup = (type: Step['type'], change: boolean): Step => ({
    kind: 'backup',
    type,
    change,
    changeBetween: random() < 0.25,
    faults: faultsOf('backup', 2),
  })
  const steps = [backup('full', false)]
  // two backups and then a restore more often than not; a large source once, so that a seed costs about the same
  if (packs < 3 && random() < 0.6)
    steps.push(backup(pick(['incremental', 'incremental', 'differential', 'full']), random() < 0.8))
  if (packs < 3 || random() < 0.5)
    steps.push({ kind: 'restore', type: 'full', change: false, changeBetween: false, faults: faultsOf('restore', 2) })
  if (source !== 'database' && steps.at(-1)?.kind === 'restore') steps.push(restoreOver(steps.pop() as Step, seed))
  return { seed, source, packs, steps }
}

/** By numbers of its own, so that seeds draw what they always did. Of what lies there is read what is read nowhere else. */
function restoreOver(step: Step, seed: number): Step {
  const random = seeded(seed ^ 0x0e4a)
  const pick: Pick = (of) => of[Math.floor(random() * of.length)] as never
  if (random() < 0.4) return step
  if (random() < 0.6) return { ...step, over: true }
  const read: DiskFault = {
    ...{ kind: 'disk', where: 'place', call: 'read', how: pick(['EIO', 'short', 'kill']) },
    ...{ at: pick(upTo(40)), times: pick([1, 2, 1_000_000]) },
  }
  return { ...step, over: true, faults: [read, ...step.faults.slice(1)] }
}

interface Draw {
  readonly random: () => number
  readonly pick: Pick
  readonly packs: number
}

function faultOf(kind: Kind, draw: Draw): Fault {
  const what = draw.pick(['kill', 'kill', 'disk', 'disk', 'disk', 'line', 'line'])
  if (what === 'kill') return killOf(kind, draw)
  return what === 'disk' ? diskFaultOf(kind, draw) : lineFaultOf(kind, draw)
}

function killOf(kind: Kind, { pick, packs }: Draw): Kill {
  const when =
    kind === 'restore'
      ? pick(['get', 'get', 'signGets', 'openBackups'] as const)
      : pick(['put', 'put', 'stored', 'stored', 'signPuts', 'commitBackup', 'committed'] as const)
  const once = when === 'commitBackup' || when === 'committed' || when === 'openBackups'
  const objects = kind === 'backup' ? packs + 4 : 2 * packs + 3
  return { kind: 'kill', who: pick(['job', 'job', 'agent']), when, at: once ? 1 : pick(upTo(objects)) }
}

/** What can happen where. Reading is tried where the product reads by itself: a source, and objects of the store. */
const AT_PLACES: Readonly<Record<Place, ReadonlyArray<readonly [Call, readonly How[]]>>> = {
  journal: [
    ['write', ['EIO', 'ENOSPC', 'fills', 'fills', 'torn kill', 'kill']],
    ['sync', ['EIO', 'kill', 'kill after']],
    ['rename', ['EIO', 'kill', 'kill after']],
    ['open', ['EIO', 'kill']],
  ],
  known: [
    ['write', ['EIO', 'ENOSPC', 'fills', 'fills', 'torn kill', 'kill']],
    ['sync', ['EIO', 'kill', 'kill after']],
    ['read', ['EIO', 'short', 'kill']],
    ['open', ['EIO', 'kill']],
    ['rename', ['EIO', 'kill', 'kill after']],
  ],
  scratch: [
    ['write', ['EIO', 'ENOSPC', 'fills', 'fills', 'torn kill', 'kill']],
    ['read', ['EIO', 'short', 'kill']],
    ['open', ['EIO', 'ENOSPC', 'kill']],
  ],
  source: [
    ['read', ['EIO', 'short', 'kill']],
    ['open', ['EIO', 'kill']],
  ],
  store: [
    ['write', ['EIO', 'ENOSPC', 'fills']],
    ['sync', ['EIO']],
    ['rename', ['EIO', 'ENOSPC']],
    ['open', ['EIO']],
    ['read', ['EIO', 'short']],
  ],
  place: [
    ['write', ['EIO', 'ENOSPC', 'fills', 'fills', 'torn kill', 'kill']],
    ['sync', ['EIO', 'kill', 'kill after']],
    ['open', ['EIO', 'ENOSPC', 'kill']],
    ['rename', ['EIO', 'kill', 'kill after']],
  ],
}

function diskFaultOf(kind: Kind, { pick, packs }: Draw): DiskFault {
  const where = pick<Place>(
    kind === 'backup'
      ? ['journal', 'journal', 'known', 'scratch', 'scratch', 'source', 'source', 'store', 'store']
      : ['journal', 'place', 'place', 'place', 'scratch', 'store'],
  )
  // a restore only reads the store
  const fits = AT_PLACES[where].filter(([call]) => kind === 'backup' || where !== 'store' || call === 'read' || call === 'open')
  const [call, ways] = pick(fits)
  const at = pick(upTo(where === 'journal' || call === 'sync' ? 4 + packs : call === 'open' ? 6 : 8 + 20 * packs))
  const how = pick(ways)
  const often = where === 'store' ? 3 : 1_000_000
  // a disk that takes a part and then nothing: libuv goes on after a part alone, and gives its length only where the rest then fails
  const times = how === 'fills' ? pick([2, 2, 2, often]) : pick([1, 1, 1, 2, often])
  return { kind: 'disk', where, call, how, at, times }
}

function lineFaultOf(kind: Kind, { random, pick, packs }: Draw): BadLine {
  const what = pick(LINES) as Line
  return {
    kind: 'line',
    what,
    status: pick([500, 503, 403, 409, 412, 429]),
    at: pick(upTo((kind === 'backup' ? 4 : 3) + packs)),
    times: pick(what === 'slow' ? [1_000_000] : [1, 1, 1, 2, 3]),
    afterBytes: Math.floor(random() ** 3 * (packs > 0 ? 16 * 2 ** 20 : 300_000)),
  }
}

const upTo = (most: number): number[] => Array.from({ length: most }, (_, n) => n + 1)

export function nameOf(fault: Fault): string {
  if (fault.kind === 'kill') return `kill of the ${fault.who}, ${fault.when}`
  if (fault.kind === 'line') return `line: ${fault.what}`
  return `disk of the ${fault.where}: ${fault.how}, ${fault.call}`
}
