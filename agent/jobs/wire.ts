import { HoldfastError } from '../../shared/errors.ts'
import {
  type JobCommand,
  type JobError,
  JobOutcome,
  type JobProgress,
  JobResult,
  Severity,
} from '../../shared/generated/holdfast/agent/v1/jobs.ts'
import type { ConnectRequest } from '../../shared/generated/holdfast/agent/v1/session.ts'
import type { Finding } from '../../shared/results.ts'
import type { PlainError, PlainProgress, PlainResult } from './messages.ts'

/** Plain values of a job's process as messages of the wire contract. */

type Attempt = Pick<JobCommand, 'jobId' | 'attempt'>

const OUTCOMES = {
  succeeded: JobOutcome.SUCCEEDED,
  failed: JobOutcome.FAILED,
  cancelled: JobOutcome.CANCELLED,
} as const

const SEVERITIES = { info: Severity.INFO, warning: Severity.WARNING, error: Severity.ERROR } as const

/** Largest detail_json that is sent. */
const MAX_DETAIL_BYTES = 1024 * 1024

export function wireProgress({ jobId, attempt }: Attempt, progress: PlainProgress): JobProgress {
  return {
    jobId,
    attempt,
    phase: progress.phase,
    readBytes: whole(progress.readBytes),
    storedBytes: whole(progress.storedBytes),
    skippedBytes: whole(progress.skippedBytes),
    writtenBytes: whole(progress.writtenBytes),
    objectsDone: whole(progress.objectsDone),
    objectsTotal: whole(progress.objectsTotal),
    totalBytes: whole(progress.totalBytes),
    chunks: whole(progress.chunks),
    chunksSkipped: whole(progress.chunksSkipped),
  }
}

const whole = (value: number): bigint => BigInt(Math.max(0, Math.round(value)))

/** What nobody foresaw may have been of the moment, so it is tried again like what is known to be. */
export function wireError(error: PlainError): JobError {
  const retryable = error.retry || error.code === 'internal'
  return { code: error.code, message: error.message.slice(0, 8000), hint: error.hint ?? '', retryable }
}

export function wireResult(attempt: Attempt, result: PlainResult): JobResult {
  const detail = result.detail === null ? '' : JSON.stringify(result.detail)
  if (Buffer.byteLength(detail) > MAX_DETAIL_BYTES)
    throw new HoldfastError('internal', 'the answer of the job is too large to be told')
  return {
    jobId: attempt.jobId,
    attempt: attempt.attempt,
    outcome: OUTCOMES[result.outcome],
    error: result.error ? wireError(result.error) : undefined,
    totals: wireProgress(attempt, result.progress),
    detailJson: detail,
  }
}

export function failedResult(attempt: Attempt, error: PlainError): JobResult {
  return JobResult.fromPartial({
    jobId: attempt.jobId,
    attempt: attempt.attempt,
    outcome: JobOutcome.FAILED,
    error: wireError(error),
  })
}

export function wireFinding(attempt: Attempt, finding: Finding): ConnectRequest {
  const { code, message } = finding
  return {
    message: {
      $case: 'jobFinding',
      value: {
        jobId: attempt.jobId,
        attempt: attempt.attempt,
        code,
        severity: SEVERITIES[finding.severity],
        message,
        hint: finding.hint ?? '',
      },
    },
  }
}
