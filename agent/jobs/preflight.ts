import { ERRORS, type ErrorCode, HoldfastError } from '../../shared/errors.ts'
import type { PreflightWork } from '../../shared/generated/holdfast/agent/v1/jobs.ts'
import type { Finding } from '../../shared/results.ts'
import type { BackupPlan, RestorePlan } from '../engines/engine.ts'
import { engineFor } from '../engines/registry.ts'
import type { JobContext } from './context.ts'

/** Is everything in order for a backup of the source? Changes nothing. */
export async function runPreflight(job: JobContext, work: PreflightWork): Promise<{ findings: Finding[] }> {
  const source = job.source(work.source)
  const plan: BackupPlan<unknown> = { action: 'backup', config: source.config, type: 'full', parts: [] }
  const findings = await engineFor(source.engine).preflight(plan, job.run)
  for (const finding of findings) job.finding(finding)
  return { findings }
}

/** Pre-flight before work: every finding is reported, and one of severity error ends the job before anything was read or written. */
export async function requirePreflight(
  job: JobContext,
  engine: string,
  plan: BackupPlan<unknown> | RestorePlan<unknown>,
): Promise<Finding[]> {
  job.report({ phase: 'prepare' })
  const findings = await engineFor(engine).preflight(plan, job.run)
  for (const finding of findings) job.finding(finding)
  requireNoError(findings)
  return findings
}

/** A server that is away, or a disk that is full, may be so no more at the next try: only what lasts ends the job for good. */
export function requireNoError(findings: readonly Finding[]): void {
  const errors = findings.filter((finding) => finding.severity === 'error')
  const worst = errors.find(({ code }) => !passes(code)) ?? errors[0]
  if (!worst) return
  throw new HoldfastError('preflight_failed', `pre-flight found ${worst.code}: ${worst.message}`, {
    hint: worst.hint,
    retry: passes(worst.code),
  })
}

const passes = (code: string): boolean => Object.hasOwn(ERRORS, code) && ERRORS[code as ErrorCode].retry
