import { createHash } from 'node:crypto'
import path from 'node:path'
import { HoldfastError } from '../../shared/errors.ts'
import type { RestoreWork } from '../../shared/generated/holdfast/agent/v1/jobs.ts'
import type { RestoreDetail } from '../../shared/results.ts'
import type { Engine, RestorePlan } from '../engines/engine.ts'
import { engineFor } from '../engines/registry.ts'
import { requireRef } from './backup.ts'
import { boundedPreview } from './bounded.ts'
import type { JobContext } from './context.ts'
import { openBackup } from './opened.ts'
import { requirePreflight } from './preflight.ts'
import { tryProcessLock } from './process-lock.ts'
import { requireAllowed } from './restore-rule.ts'

/** Shows what a restore would do, or does it: pre-flight, restore beside and swap, then compares counts when asked. */
export async function runRestore(job: JobContext, work: RestoreWork): Promise<RestoreDetail> {
  const backup = requireRef(work.backup)
  requireAllowed(job.start.agent, work)
  const via = job.source(work.viaSource)
  const engine = engineFor(via.engine)
  const plan: RestorePlan<unknown> = {
    action: 'restore',
    config: via.config,
    targetName: work.targetName === '' ? null : work.targetName,
    parts: work.parts,
    mapping: work.mapping,
    overwrite: work.overwriteExisting,
  }
  refuseMapping(engine, plan.mapping)
  // a person is not called to unlock what could not be restored anyway
  if (job.start.jobKey !== null && !work.planOnly) await requirePreflight(job, via.engine, plan)
  const reader = await openBackup(job, backup, work.leanedOn)
  try {
    if (reader.manifest.facts.engine !== via.engine) {
      throw new HoldfastError(
        'not_supported',
        `a ${reader.manifest.facts.engine} backup cannot be restored by way of the ${via.engine} source ${via.name}`,
        {
          hint: `Choose a ${reader.manifest.facts.engine} source of the host with --via.`,
        },
      )
    }
    const findings = work.planOnly ? await engine.preflight(plan, job.run) : await requirePreflight(job, via.engine, plan)
    const preview = await engine.preview(plan, reader, job.run)
    const target = `${job.start.agent.name}/${plan.targetName ?? via.name}`
    const answer = { preview: boundedPreview({ ...preview, findings: [...findings, ...preview.findings] }), target }
    const nothing = { read_bytes: 0, skipped_bytes: 0, written_bytes: 0 }
    if (work.planOnly) return { ...answer, ...nothing, plan_only: true, checked: false }
    const written = await restoreAlone(job, engine, plan, reader)
    const checked = work.verifyIntegrity && work.parts.length === 0
    if (checked) await requireSame(job, engine, plan, reader.fingerprint)
    const { readBytes, skippedBytes } = job.totals()
    return { ...answer, plan_only: false, read_bytes: readBytes, skipped_bytes: skippedBytes, written_bytes: written, checked }
  } finally {
    await reader.close()
  }
}

/** In a plan too, which shows what the restore would do. */
function refuseMapping({ kind, abilities }: Engine, mapping: RestorePlan<unknown>['mapping']): void {
  if (abilities.mapping || Object.keys(mapping).length === 0) return
  throw new HoldfastError('not_supported', `a restore of a ${kind} backup cannot rename what is in it`, {
    hint: 'Restore it under another name without a mapping, and rename there.',
  })
}

/**
 * One restore into a place at a time, by a lock that ends with this process: the control plane keeps two names apart, and only the host
 * knows when they lead to one place.
 */
async function restoreAlone(
  job: JobContext,
  engine: Engine,
  plan: RestorePlan<unknown>,
  reader: Awaited<ReturnType<typeof openBackup>>,
): Promise<number> {
  const key = await engine.placeKey({ config: plan.config, targetName: plan.targetName })
  const name = createHash('sha256').update(`${engine.kind} ${key}`).digest('hex')
  const lock = tryProcessLock(path.join(job.start.folders.places, name))
  if (!lock) {
    throw new HoldfastError('overlap', 'another restore writes the same place', {
      hint: 'Wait for it to end, or cancel it; two names may lead to one place.',
      retry: false,
    })
  }
  try {
    return await restore(job, engine, plan, reader)
  } finally {
    lock.release()
  }
}

async function restore(
  job: JobContext,
  engine: Engine,
  plan: RestorePlan<unknown>,
  reader: Awaited<ReturnType<typeof openBackup>>,
): Promise<number> {
  let written = 0
  job.report({ phase: 'restore' })
  await engine.restore(plan, reader, {
    ...job.run,
    progress: (delta) => {
      written += delta.writtenBytes ?? 0
      job.run.progress(delta)
    },
  })
  return written
}

async function requireSame(
  job: JobContext,
  engine: Engine,
  plan: RestorePlan<unknown>,
  expected: Parameters<Engine['check']>[1],
): Promise<void> {
  job.report({ phase: 'check' })
  const findings = await engine.check({ config: plan.config, targetName: plan.targetName, restored: true }, expected, job.run)
  for (const finding of findings) job.finding(finding)
  const wrong = findings.find((finding) => finding.severity === 'error')
  if (wrong) {
    throw new HoldfastError('fingerprint_mismatch', `what was restored differs from the backup: ${wrong.message}`, {
      hint: 'Verify the backup, and do not use what was restored before you know why it differs.',
    })
  }
}
