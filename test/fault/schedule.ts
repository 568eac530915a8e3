import { seeded } from '../harness/seeded.ts'

/** What one seed does: drawn from its number alone, so that a seed that failed is run again by that number. */

export const FAULTS = [
  'none',
  'job killed',
  'agent killed',
  'control plane stopped',
  'control plane killed',
  'database killed',
  'stream cut',
  'stream held beyond the lease',
  'lease ends by the clock',
  'clock jumps',
  'target answers badly',
  'target slow',
  'disk full',
  'cancelled',
] as const
export type FaultKind = (typeof FAULTS)[number]

/** What comes in the middle of an operation, and how often beside the others. Waiting out a lease by real time takes seconds. */
const WEIGHTS: Readonly<Record<FaultKind, number>> = {
  none: 8,
  'job killed': 12,
  'agent killed': 10,
  'control plane stopped': 4,
  'control plane killed': 8,
  'database killed': 30,
  'stream cut': 8,
  'stream held beyond the lease': 3,
  'lease ends by the clock': 8,
  'clock jumps': 5,
  'target answers badly': 14,
  'target slow': 4,
  'disk full': 10,
  cancelled: 8,
}

export const SOURCES = ['tree', 'notes', 'app'] as const
export type SourceKind = (typeof SOURCES)[number]

export interface BackupStep {
  readonly kind: 'backup'
  readonly type: 'full' | 'incremental' | 'differential'
  readonly fault: FaultKind
  /** Which of the agent's requests that fit is the middle: in a pack, or in what describes the backup. */
  readonly middle: 'pack' | 'description'
}

export interface ReadStep {
  readonly kind: 'restore' | 'verify'
  /** Of the seed's good backups, counted back from the newest. */
  readonly back: number
  readonly on: 'db1' | 'db2'
  readonly fault: FaultKind
}

export type Step = BackupStep | ReadStep

/** Two restores into one place, at the end. */
export interface Rivals {
  /** The process of the first is killed when the second begins. */
  readonly killed: boolean
}

export interface Schedule {
  readonly seed: number
  readonly source: SourceKind
  readonly steps: readonly Step[]
  readonly rivals: Rivals | null
}

/** A second restore costs seconds. */
const RIVALS_SHARE = 0.12

export function scheduleOf(seed: number): Schedule {
  const random = seeded(seed)
  const pick = <T>(of: readonly T[]): T => of[Math.floor(random() * of.length)] as T
  const source = pick<SourceKind>(['tree', 'tree', 'notes', 'app'])
  const fits = FAULTS.filter((kind) => kind !== 'database killed' || source === 'app')
  const total = fits.reduce((sum, kind) => sum + WEIGHTS[kind], 0)
  const fault = (): FaultKind => {
    let left = random() * total
    return fits.find((kind) => (left -= WEIGHTS[kind]) < 0) ?? 'none'
  }
  const backup = (): BackupStep => ({
    kind: 'backup',
    type: pick(['full', 'incremental', 'incremental', 'differential']),
    fault: fault(),
    middle: pick(['pack', 'description']),
  })
  const backups = random() < 0.5 ? [backup()] : [backup(), backup()]
  const read: ReadStep = {
    kind: pick(['restore', 'restore', 'restore', 'verify']),
    back: pick([0, 0, 1]),
    on: pick(['db1', 'db2']),
    // fewer faults a seed more often than many: what they led to is then easier to see
    fault: random() < 0.6 ? fault() : 'none',
  }
  // of its own numbers, so that a seed does what it did before there were rivals
  const other = seeded(seed ^ 0x71b0)
  const rivals = other() < RIVALS_SHARE ? { killed: other() < 0.5 } : null
  return { seed, source, steps: [...backups, read], rivals }
}
