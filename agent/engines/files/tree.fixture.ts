import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import type { BackupSource } from '../../../shared/artifacts.ts'
import type { Finding, Fingerprint } from '../../../shared/results.ts'
import { type MemoryBackup, type MemoryOptions, memorySink, memorySource } from '../testing/memory.ts'
import { backupPlan, restorePlan, withRun } from '../testing/plans.ts'
import { type FilesConfig, filesConfig } from './config.ts'
import { filesEngine } from './files.ts'
import { removeTree } from './remove.ts'

/** A folder with a source in it, `tree`, and what tests of this engine do with it. */
export class Workshop {
  readonly folder: string
  readonly root: string

  private constructor(folder: string) {
    this.folder = folder
    this.root = path.join(folder, 'tree')
  }

  static async open(within = tmpdir()): Promise<Workshop> {
    return new Workshop(await mkdtemp(path.join(within, 'tree-')))
  }

  at(...names: string[]): string {
    return path.join(this.root, ...names)
  }

  beside(...names: string[]): string {
    return path.join(this.folder, ...names)
  }

  config(more: Partial<FilesConfig> = {}): FilesConfig {
    return filesConfig.parse({ path: this.root, ...more })
  }

  async take(options: MemoryOptions = {}, more: Partial<FilesConfig> = {}, parts: string[] = []): Promise<TakenTree> {
    const { sink, backup } = memorySink(options)
    return withRun(async (run) => {
      const fingerprint = await filesEngine.backup(backupPlan(this.config(more), { parts }), sink, run)
      const entries = backup.trees.get('tree')?.entries ?? []
      const paths = entries.map(({ entry }) => entry.path.toString('latin1'))
      return { backup, fingerprint, paths, findings: run.findings, source: memorySource(backup, fingerprint) }
    })
  }

  restore(
    source: BackupSource,
    targetName: string | null,
    more: { parts?: string[]; overwrite?: boolean } = {},
  ): Promise<Finding[]> {
    return withRun(async (run) => {
      await filesEngine.restore(restorePlan(this.config(), targetName, more), source, run)
      return run.findings
    })
  }

  async dispose(): Promise<void> {
    await removeTree(Buffer.from(this.folder))
  }
}

export interface TakenTree {
  readonly backup: MemoryBackup
  readonly fingerprint: Fingerprint
  readonly paths: string[]
  readonly findings: readonly Finding[]
  readonly source: BackupSource
}

export const codes = (findings: readonly Finding[]): string[] => findings.map(({ code }) => code)
