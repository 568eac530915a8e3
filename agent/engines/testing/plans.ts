import { readdirSync, readFileSync } from 'node:fs'
import type { BackupSource } from '../../../shared/artifacts.ts'
import type { Fingerprint } from '../../../shared/results.ts'
import type { Bench, Store } from '../contract.ts'
import type { BackupPlan, Place, RestorePlan } from '../engine.ts'
import { type MemoryBackup, type MemoryOptions, memorySink, memorySource } from './memory.ts'
import { type TestRun, testRun } from './run.ts'

export const backupPlan = <Config>(config: Config, more: Partial<BackupPlan<Config>> = {}): BackupPlan<Config> => ({
  action: 'backup',
  config,
  type: 'full',
  parts: [],
  ...more,
})

export const restorePlan = <Config>(
  config: Config,
  targetName: string | null,
  more: Partial<RestorePlan<Config>> = {},
): RestorePlan<Config> => ({ action: 'restore', config, targetName, parts: [], mapping: {}, overwrite: false, ...more })

export const sourcePlace = <Config>(store: Store<Config>): Place<Config> => ({ config: store.config, targetName: null })
export const placeBeside = <Config>(store: Store<Config>, targetName: string): Place<Config> => ({
  config: store.config,
  targetName,
})

/** Does `work` with a run of its own, which is cleared away afterwards. */
export async function withRun<T>(work: (run: TestRun) => Promise<T>, fence?: () => Error | null): Promise<T> {
  const run = await testRun(fence)
  try {
    return await work(run)
  } finally {
    await run.dispose()
  }
}

export interface Taken {
  readonly backup: MemoryBackup
  readonly fingerprint: Fingerprint
  readonly source: BackupSource
}

/** A backup of the store's source into memory. */
export async function take<Config>(
  { engine }: Bench<Config>,
  store: Store<Config>,
  more: Partial<BackupPlan<Config>> = {},
  options: MemoryOptions = {},
): Promise<Taken> {
  const { sink, backup } = memorySink(options)
  const fingerprint = await withRun((run) => engine.backup(backupPlan(store.config, more), sink, run))
  return { backup, fingerprint, source: memorySource(backup, fingerprint) }
}

/** The error that `work` ends with; throws when it does not. */
export async function failureOf(work: Promise<unknown>): Promise<Error & { code?: unknown }> {
  try {
    await work
  } catch (error) {
    return error as Error
  }
  throw new Error('it did not fail')
}

/** Children of this process, sorted. Empty where /proc does not tell. */
export function children(): number[] {
  if (process.platform !== 'linux') return []
  return readdirSync('/proc/self/task')
    .flatMap((thread) => childrenOf(thread).trim().split(' '))
    .filter((pid) => pid !== '')
    .map(Number)
    .sort((a, b) => a - b)
}

function childrenOf(thread: string): string {
  try {
    return readFileSync(`/proc/self/task/${thread}/children`, 'latin1')
  } catch (error) {
    // it has ended since it was listed
    if (['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) return ''
    throw error
  }
}
