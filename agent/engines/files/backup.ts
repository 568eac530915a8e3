import { realpathSync } from 'node:fs'
import type { BackupSink } from '../../../shared/artifacts.ts'
import type { Fingerprint } from '../../../shared/results.ts'
import type { BackupPlan, Run } from '../engine.ts'
import { Beneath } from './beneath.ts'
import type { FilesConfig } from './config.ts'
import { treeEntries } from './entries.ts'
import { fileError } from './errors.ts'
import { Report } from './report.ts'
import { Parts } from './select.ts'
import { Tally } from './tally.ts'

/** The one artifact of a backup. */
export const TREE = 'tree'
const CHUNKING = { kind: 'content-defined', averageBytes: 64 * 1024 } as const

export async function backup(plan: BackupPlan<FilesConfig>, sink: BackupSink, run: Run): Promise<Fingerprint> {
  run.signal.throwIfAborted()
  const parts = new Parts(plan.parts)
  const report = new Report(run)
  const tally = new Tally()
  const tree = openTree(plan.config.path)
  try {
    run.progress({ phase: 'reading' })
    const entries = treeEntries({ tree, config: plan.config, parts, report, tally, run })
    await sink.tree({ name: TREE, chunking: CHUNKING, facts: { path: plan.config.path } }, entries)
    parts.requireAll(plan.config.path)
  } catch (error) {
    run.signal.throwIfAborted()
    throw fileError(error, plan.config.path)
  } finally {
    tree.close()
    report.close()
  }
  return tally.fingerprint()
}

/** The folder with this path, which may itself be given by way of links. */
export function openTree(path: string): Beneath {
  try {
    return new Beneath(realpathSync(Buffer.from(path), { encoding: 'buffer' }))
  } catch (error) {
    throw fileError(error, path)
  }
}
