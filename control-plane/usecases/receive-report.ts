import { z } from 'zod'
import { isHoldfastError } from '../../shared/errors.ts'
import { JobOutcome, type JobProgress, type JobResult, Severity } from '../../shared/generated/holdfast/agent/v1/jobs.ts'
import { readJson } from '../../shared/json.ts'
import { backupDetailSchema, restoreDetailSchema, testRestoreDetailSchema, verifyDetailSchema } from '../../shared/results.ts'
import {
  type AttemptRef,
  type AttemptResult,
  confirmEnd,
  finishAttempt,
  keepDetail,
  recordAccepted,
  recordFinding,
  recordLog,
  recordProgress,
} from '../catalog/job-reports.ts'
import { getJob, type JobRow } from '../catalog/jobs.ts'
import { isFinished } from '../domain/job.ts'
import type { AgentMessage, Session } from '../fleet/live-session.ts'
import type { ControlPlane } from './control-plane.ts'
import { recordVerification, withoutGood } from './record-verification.ts'
import { reportSources } from './report-sources.ts'

/**
 * What an agent says of its jobs, in the order it said it. Repeating any of it changes nothing; what concerns an attempt that is not the
 * current one is dropped, but for a result, which is always confirmed so that the agent can forget it.
 */
export async function receiveReport(cp: ControlPlane, from: Session, message: AgentMessage): Promise<void> {
  switch (message.$case) {
    case 'sourcesChanged':
      return reportSources(cp, from.agentId, message.value.sources)
    case 'jobAccepted':
      return ignoreFenced(() => recordAccepted(cp.catalog.db, refOf(from, message.value), cp.clock.now(), leaseEnd(cp)))
    case 'jobRefused': {
      const error = message.value.error ?? {
        code: 'internal',
        message: 'the agent refused the command',
        hint: '',
        retryable: true,
      }
      const result: AttemptResult = { outcome: 'failed', error, retryable: error.retryable }
      return ignoreFenced(() => finishAttempt(cp.catalog.db, refOf(from, message.value), result, cp.clock.now()))
    }
    case 'jobProgress':
      await recordProgress(cp.catalog.db, refOf(from, message.value), progressOf(message.value))
      return
    case 'jobFinding': {
      const { code, message: text, hint, severity } = message.value
      const finding = { code, message: text, ...(hint ? { hint } : {}), severity: SEVERITIES[severity] ?? 'warning' }
      return ignoreFenced(() => recordFinding(cp.catalog.db, refOf(from, message.value), finding, cp.clock.now()))
    }
    case 'jobLog': {
      const { number, level, message: text, clockMs } = message.value
      const line = { number: Number(number), level, message: text, clockMs: Number(clockMs) }
      return ignoreFenced(() => recordLog(cp.catalog.db, refOf(from, message.value), line, cp.clock.now()))
    }
    case 'jobResult':
      return receiveResult(cp, from, message.value)
  }
}

const SEVERITIES: Readonly<Record<number, 'info' | 'warning' | 'error'>> = {
  [Severity.INFO]: 'info',
  [Severity.WARNING]: 'warning',
  [Severity.ERROR]: 'error',
}

const refOf = (from: Session, of: { jobId: string; attempt: number }): AttemptRef => ({
  by: { agentId: from.agentId, epoch: from.epoch },
  jobId: of.jobId,
  attempt: of.attempt,
})

export const leaseEnd = (cp: ControlPlane): Date => new Date(cp.clock.now().getTime() + cp.settings.leaseSeconds * 1000)

/** Late words of an attempt that is over are no fault of the stream; anything else is. */
export async function ignoreFenced(work: () => Promise<unknown>): Promise<void> {
  try {
    await work()
  } catch (error) {
    if (isHoldfastError(error, 'attempt_fenced') || isHoldfastError(error, 'not_found') || isHoldfastError(error, 'job_state'))
      return
    throw error
  }
}

async function receiveResult(cp: ControlPlane, from: Session, result: JobResult): Promise<void> {
  const ref = refOf(from, result)
  // whoever has a result took the command: the word of that may have been lost with a stream before
  await ignoreFenced(() => recordAccepted(cp.catalog.db, ref, cp.clock.now(), leaseEnd(cp)))
  const job = await getJob(cp.catalog.db, result.jobId).catch((error: unknown) => {
    if (isHoldfastError(error, 'not_found')) return null
    throw error
  })
  if (!job || job.agentId !== from.agentId) return confirm(from, result, true)
  if (result.totals) await recordProgress(cp.catalog.db, ref, progressOf(result.totals))
  await ignoreFenced(() => applyResult(cp, ref, job, result))
  await confirmEnd(cp.catalog.db, ref, cp.clock.now())
  const after = await getJob(cp.catalog.db, result.jobId)
  // a backup that is being validated is confirmed when that has ended: until then its key may be needed again
  const waiting = after.attempt === result.attempt && (after.state === 'committing' || after.state === 'validating')
  if (!waiting) await confirm(from, result, isFinished(after.state))
  cp.wake()
}

/** Lost with the stream at worst: the agent then sends its result again. */
export async function confirm(to: Pick<Session, 'send'>, of: { jobId: string; attempt: number }, final: boolean): Promise<void> {
  await to.send({ $case: 'resultConfirmed', value: { jobId: of.jobId, attempt: of.attempt, final } })
}

async function applyResult(cp: ControlPlane, ref: AttemptRef, job: JobRow, result: JobResult): Promise<void> {
  const now = cp.clock.now()
  const parsed = parseDetail(job, result)
  if (parsed === 'malformed') {
    cp.log.warn({ job: job.id, agent: job.agentId }, 'the answer of a job does not have its form')
    await finishAttempt(cp.catalog.db, ref, { outcome: 'failed', error: MALFORMED, retryable: false }, now)
    return
  }
  const detail = parsed
  if (result.outcome === JobOutcome.CANCELLED) {
    await finishAttempt(cp.catalog.db, ref, { outcome: 'cancelled', ...detail }, now)
    return
  }
  if (result.outcome !== JobOutcome.SUCCEEDED) {
    const error = result.error ?? { code: 'internal', message: 'the agent gave no reason', hint: '', retryable: false }
    await finishAttempt(cp.catalog.db, ref, { outcome: 'failed', error, retryable: error.retryable, ...detail }, now)
    return
  }
  const uncommitted = job.kind === 'backup' && job.state === 'running' && job.spec.dry_run !== true
  if (uncommitted) {
    const error = { code: 'backup_invalid', message: 'the agent called the backup done without committing it' }
    await finishAttempt(cp.catalog.db, ref, { outcome: 'failed', error, retryable: true, ...detail }, now)
    return
  }
  // a backup's success is its validation's
  if (job.kind === 'backup' && job.spec.dry_run !== true) {
    if (detail.detail) await keepDetail(cp.catalog.db, ref, detail.detail)
    return
  }
  // both or neither: a verification that found damage must not be over without its finding, should this process die between them
  await cp.catalog.transaction(async (tx) => {
    await finishAttempt(tx, ref, { outcome: 'succeeded', ...(detail.detail && { detail: withoutGood(detail.detail) }) }, now)
    await recordVerification(tx, job, detail.detail, now)
  })
}

/**
 * The agent's answer is untrusted input: kept only when it has its shape. One that has not fails its job and is confirmed like any other: an
 * agent that told it again with each new stream would never get another word through.
 */
function parseDetail(job: JobRow, result: JobResult): { detail?: Record<string, unknown> } | 'malformed' {
  if (result.detailJson === '') return {}
  const schema = DETAILS[job.kind] ?? z.record(z.string(), z.unknown())
  const parsed = readJson(result.detailJson, schema)
  if (parsed.success) return { detail: parsed.data as Record<string, unknown> }
  return 'malformed'
}

const MALFORMED = {
  code: 'invalid_argument',
  message: "the agent's answer of the job does not have its form: what it did counts for nothing",
  hint: 'Update the agent and run the job again.',
}

const DETAILS: Readonly<Partial<Record<JobRow['kind'], z.ZodType>>> = {
  backup: backupDetailSchema,
  restore: restoreDetailSchema,
  verify: verifyDetailSchema,
  'test-restore': testRestoreDetailSchema,
}

function progressOf(progress: JobProgress): Record<string, unknown> {
  return {
    phase: progress.phase.slice(0, 50),
    read_bytes: Number(progress.readBytes),
    stored_bytes: Number(progress.storedBytes),
    skipped_bytes: Number(progress.skippedBytes),
    written_bytes: Number(progress.writtenBytes),
    objects_done: Number(progress.objectsDone),
    objects_total: Number(progress.objectsTotal),
    total_bytes: Number(progress.totalBytes),
    chunks: Number(progress.chunks),
    chunks_skipped: Number(progress.chunksSkipped),
  }
}
