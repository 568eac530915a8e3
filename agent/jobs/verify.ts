import { isHoldfastError } from '../../shared/errors.ts'
import type { TestRestoreWork, VerifyWork } from '../../shared/generated/holdfast/agent/v1/jobs.ts'
import { verifyManifests, verifyStored } from '../../shared/repository/verify.ts'
import type { TestRestoreDetail, VerifyDetail } from '../../shared/results.ts'
import { engineFor } from '../engines/registry.ts'
import { requireRef } from './backup.ts'
import { BoundedErrors, boundedCounts, boundedFindings } from './bounded.ts'
import type { JobContext } from './context.ts'
import { openBackup, readerOptions } from './opened.ts'
import { requirePreflight } from './preflight.ts'
import { budgetOf, goodBits } from './verify-budget.ts'

/** Every byte that the backup needs, or what the budget says, read back, opened and compared. What is wrong is the answer, not a failure of the job. */
export async function runVerify(job: JobContext, work: VerifyWork): Promise<VerifyDetail> {
  const errors = new BoundedErrors()
  const budget = budgetOf(work)
  job.report({ phase: 'read' })
  const options = await readerOptions(job, requireRef(work.backup), work.leanedOn).catch((error: unknown) => {
    // keys or a manifest that are damaged keep it from being opened at all: the finding, not a failure of the job
    if (!isHoldfastError(error) || !DAMAGE.has(error.code)) throw error
    const { code, message, context } = error
    errors.add({ code, message, key: typeof context?.key === 'string' ? context.key : undefined })
    return null
  })
  const manifests = options && (await verifyManifests(options, (error) => errors.add(error)))
  const stored = options && (await verifyStored(options, (error) => errors.add(error), budget))
  return {
    valid: errors.count === 0,
    plan_only: budget.planOnly,
    bytes_checked: (manifests?.bytes ?? 0) + (stored?.bytes ?? 0),
    objects_checked: (manifests?.objects ?? 0) + (stored?.objects ?? 0),
    packs: stored?.packs,
    good: stored ? goodBits(stored.good) : [],
    errors: errors.listed,
  }
}

const DAMAGE: ReadonlySet<string> = new Set(['object_missing', 'object_damaged', 'key_missing', 'manifest_forged'])

/** Restores into a throw-away place, counts, compares, and removes the place whatever happened. */
export async function runTestRestore(job: JobContext, work: TestRestoreWork): Promise<TestRestoreDetail> {
  const started = job.clock.monotonicMs()
  const via = job.source(work.viaSource)
  const engine = engineFor(via.engine)
  const reader = await openBackup(job, requireRef(work.backup), work.leanedOn)
  try {
    const sandbox = await engine.sandbox(via.config, job.run)
    try {
      const plan = { action: 'restore', ...sandbox.place, parts: [], mapping: {}, overwrite: false } as const
      await requirePreflight(job, via.engine, plan)
      job.report({ phase: 'restore' })
      await engine.restore(plan, reader, job.run)
      job.report({ phase: 'check' })
      const findings = await engine.check(sandbox.place, reader.fingerprint, job.run)
      return {
        valid: !findings.some((finding) => finding.severity === 'error'),
        ...boundedCounts(reader.fingerprint, await engine.count(sandbox.place, job.run)),
        findings: boundedFindings(findings),
        seconds: (job.clock.monotonicMs() - started) / 1000,
      }
    } finally {
      await sandbox.dispose()
    }
  } finally {
    await reader.close()
  }
}
