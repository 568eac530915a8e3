import type { BackupSource, TreeEntry } from '../../../shared/artifacts.ts'
import { HoldfastError } from '../../../shared/errors.ts'
import type { RestorePlan, Run } from '../engine.ts'
import { TREE } from './backup.ts'
import type { FilesConfig } from './config.ts'
import { EarlierFolders } from './earlier.ts'
import { fileError } from './errors.ts'
import { LinkedParts } from './linked-parts.ts'
import { TreeMaker } from './maker.ts'
import { merge } from './merge.ts'
import { Report } from './report.ts'
import { Parts } from './select.ts'
import { Staging } from './staging.ts'
import { findTarget, refuseExisting, refuseMounts, type Target } from './target.ts'

export async function restore(plan: RestorePlan<FilesConfig>, source: BackupSource, run: Run): Promise<void> {
  run.signal.throwIfAborted()
  const parts = new Parts(plan.parts)
  const target = findTarget(plan)
  if (target.exists && !plan.overwrite) refuseExisting(target)
  if (target.exists && parts.all) refuseMounts(target)
  const report = new Report(run)
  try {
    await restoreInto(target, parts, source, run, report)
  } catch (error) {
    run.signal.throwIfAborted()
    throw fileError(error, target.path)
  } finally {
    report.close()
  }
}

async function restoreInto(target: Target, parts: Parts, source: BackupSource, run: Run, report: Report): Promise<void> {
  const staging = await Staging.open(target, await sizeOf(source))
  try {
    run.progress({ phase: 'writing' })
    await fill(staging, parts, source, run, report)
    if (target.exists) refuseLess(target, report)
    await staging.sync()
    run.signal.throwIfAborted()
    run.fenced()
    // from here on nothing waits for anything, so that no abort finds it half done
    if (target.exists && !parts.all) merge(staging.path, Buffer.from(target.path))
    else staging.swap()
  } finally {
    await staging.dispose(report)
  }
}

async function sizeOf(source: BackupSource): Promise<number> {
  let size = 0
  for await (const { bytes } of source.artifacts()) size += bytes
  return size
}

async function fill(staging: Staging, parts: Parts, source: BackupSource, run: Run, report: Report): Promise<void> {
  const accept = (entry: TreeEntry) => entry.path.length === 0 || parts.judge(entry.path) !== 'skip'
  const linked = parts.all ? null : await LinkedParts.find(source, TREE, accept)
  const maker = new TreeMaker(staging.path, run, report)
  const earlier = new EarlierFolders(staging.earlier)
  try {
    for await (const entry of source.openTree(TREE, (one) => accept(one) || (linked?.needs(one) ?? false), earlier)) {
      run.signal.throwIfAborted()
      if (linked?.needs(entry)) await maker.addUnnamed(linked.renamed(entry))
      else await maker.add(linked?.renamed(entry) ?? entry)
      run.progress({ objectsDone: 1 })
    }
    parts.requireAll('the backup')
    maker.finish()
  } finally {
    maker.close()
    earlier.close()
  }
}

/** What is there gives way to the whole of what was chosen, or stays. */
function refuseLess(target: Target, report: Report): void {
  const absent = report.countOf('entry_not_restored')
  if (absent === 0) return
  throw new HoldfastError(
    'not_supported',
    `${absent} entries of the backup cannot be made here: ${target.path} was not replaced`,
    {
      hint: 'Restore into another name, or run the agent as a user, and onto a file system, that can have them; the findings name them.',
    },
  )
}
