import { seeded } from '../harness/seeded.ts'

/** What one seed does: drawn from its number alone, so that a seed that failed is run again by that number. */

export const FAULTS = [
  'none',
  'job killed',
  'agent killed',
  'control plane restarted',
  'stream cut',
  'stream held beyond the lease',
  'target answers badly',
  'target slow',
  'lease ends by the clock',
  'cancelled',
] as const
export type FaultKind = (typeof FAULTS)[number]

/** What comes in the middle of an operation, and how often of a hundred. Waiting out a lease takes its time. */
const WEIGHTS: Readonly<Record<FaultKind, number>> = {
  none: 10,
  'job killed': 16,
  'agent killed': 12,
  'control plane restarted': 8,
  'stream cut': 10,
  'stream held beyond the lease': 4,
  'target answers badly': 18,
  'target slow': 4,
  'lease ends by the clock': 8,
  cancelled: 10,
}

export interface BackupStep {
  readonly kind: 'backup'
  readonly source: 'tree' | 'notes'
  readonly type: 'full' | 'incremental' | 'differential'
  readonly fault: FaultKind
  /** Which of the agent's requests that fit is the middle: in a pack, or in what describes the backup. */
  readonly middle: 'pack' | 'description'
}

export interface ReadStep {
  readonly kind: 'restore' | 'verify'
  /** Of the good backups there are, counted back from the newest. */
  readonly back: number
  readonly on: 'db1' | 'db2'
  readonly fault: FaultKind
}

export type Step = BackupStep | ReadStep

export interface Schedule {
  readonly seed: number
  readonly steps: readonly Step[]
}

export function scheduleOf(seed: number): Schedule {
  const random = seeded(seed)
  const pick = <T>(of: readonly T[]): T => of[Math.floor(random() * of.length)] as T
  const fault = (): FaultKind => {
    let left = random() * 100
    return FAULTS.find((kind) => (left -= WEIGHTS[kind]) < 0) ?? 'none'
  }
  const backup: BackupStep = {
    kind: 'backup',
    source: pick(['tree', 'notes']),
    type: pick(['full', 'incremental', 'incremental', 'differential']),
    fault: fault(),
    middle: pick(['pack', 'description']),
  }
  const read: ReadStep = {
    kind: pick(['restore', 'restore', 'restore', 'verify']),
    back: random() < 0.6 ? 0 : Math.floor(random() * 6),
    on: pick(['db1', 'db2']),
    // one fault a seed more often than two: what it led to is then easier to see
    fault: random() < 0.4 || backup.fault === 'none' ? fault() : 'none',
  }
  return { seed, steps: [backup, read] }
}

/** `17` or `1..60`. */
export function seedsOf(text: string): number[] {
  const [first = Number.NaN, last = first] = text.split('..').map(Number)
  return Array.from({ length: last - first + 1 }, (_, n) => first + n)
}
