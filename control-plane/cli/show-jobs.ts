import { z } from 'zod'
import { addCommand } from '../../shared/add-command.ts'
import {
  backupDetailSchema,
  foundSourceSchema,
  type RestoreDetail,
  type RestorePreview,
  restoreDetailSchema,
  testRestoreDetailSchema,
  verifyDetailSchema,
} from '../../shared/results.ts'
import type { JobView } from '../api/schemas/jobs.ts'
import type { Cli } from './cli.ts'
import { printFacts, printJson, printTable } from './print.ts'
import { countText, durationText, safe, sizeText, timeText } from './text.ts'
import { isOver, isRefusedPlan } from './wait.ts'

/** What a job came to: its figures, or its error with what to do. */
export function showJob(cli: Cli, job: JobView): void {
  if (cli.format === 'json') return printJson(cli.io, job)
  printFacts(cli.io, {
    job: job.id,
    kind: job.kind,
    status: job.cancel_requested_at === null || isOver(job) ? job.status : `${job.status}, being cancelled`,
    source: job.source,
    target: job.target,
    agent: job.agent,
    backup: job.backup_id,
    'asked by': job.requested_by,
    created: timeText(job.created_at),
    took: tookText(job),
    ...figures(job),
    ...unlockFacts(job),
    ...errorFacts(job),
  })
  for (const line of detailLines(job)) cli.io.out(`${safe(line)}\n`)
}

/** As a list, one row a job. */
export function showJobs(cli: Cli, jobs: readonly JobView[]): void {
  printTable(
    cli.io,
    ['JOB', 'KIND', 'STATUS', 'SOURCE', 'BACKUP', 'CREATED', 'TOOK', 'ERROR'],
    jobs.map((job) => [
      job.id,
      kindText(job),
      waitsForUnlock(job) ? `${job.status}, waits for holdfast unlock` : job.status,
      job.source ?? job.agent,
      job.backup_id ?? '-',
      timeText(job.created_at),
      tookText(job) ?? '-',
      job.error === null ? '' : `${job.error.code}: ${job.error.message}`,
    ]),
    'no jobs',
  )
}

/** What only looked is told from what was done. */
function kindText({ kind, detail }: JobView): string {
  if (detail?.plan_only === true) return `${kind}, plan`
  return detail?.dry_run === true ? `${kind}, dry run` : kind
}

/** It is at work, and can go no further without a person. */
export const waitsForUnlock = ({ unlock, finished_at, status }: JobView) =>
  unlock !== null && unlock.unlocked_at === null && finished_at === null && status === 'running'

function unlockFacts(job: JobView): Record<string, string | undefined> {
  if (job.unlock === null) return {}
  const { unlock } = job
  const waits = waitsForUnlock(job)
  return {
    'waits for': waits ? `holdfast unlock ${job.id} --identity FILE, until ${timeText(unlock.expires_at)}` : undefined,
    fingerprint: waits ? `${unlock.fingerprint} (has to be what holdfast-agent jobs shows on ${job.agent})` : undefined,
    'unlocked by': unlock.unlocked_by === null ? undefined : `${unlock.unlocked_by}, ${timeText(unlock.unlocked_at)}`,
  }
}

function tookText(job: JobView): string | undefined {
  if (job.started_at === null || job.finished_at === null) return undefined
  return durationText((Date.parse(job.finished_at) - Date.parse(job.started_at)) / 1000)
}

function errorFacts(job: JobView): Record<string, string | null> {
  return job.error === null ? {} : { error: `${job.error.code}: ${job.error.message}`, 'what to do': job.error.hint }
}

function figures(job: JobView): Record<string, string | undefined> {
  const detail = backupDetailSchema.safeParse(job.detail)
  if (job.kind !== 'backup' || !detail.success) return {}
  const { data } = detail
  return {
    type: data.reason === undefined ? data.type : `${data.type} (${data.reason})`,
    'dry run': data.dry_run ? 'yes: nothing was stored' : undefined,
    read: sizeText(data.read_bytes),
    stored: sizeText(data.stored_bytes),
    skipped: `${sizeText(data.skipped_bytes)}, ${countText(data.chunks_skipped)} of ${countText(data.chunks)} chunks`,
  }
}

function detailLines(job: JobView): string[] {
  if (job.kind === 'restore') {
    const detail = restoreDetailSchema.safeParse(job.detail)
    return detail.success ? restoreLines(job, detail.data) : []
  }
  if (job.kind === 'verify') return verifyLines(job)
  if (job.kind === 'test-restore') return testRestoreLines(job)
  if (job.kind === 'discover') return discoverLines(job)
  return []
}

function restoreLines(job: JobView, detail: RestoreDetail): string[] {
  const lines = previewLines(detail.preview)
  if (detail.plan_only) {
    const verdict = isRefusedPlan(job) ? '; as things are, the restore would be refused' : ''
    return [`into      ${detail.target}`, ...lines, `only a plan: nothing was changed${verdict}`]
  }
  if (job.status !== 'succeeded') return lines
  const { skipped_bytes: skipped, read_bytes: read } = detail
  if (skipped > 0) lines.push(`found     ${sizeText(skipped)} in place, fetched ${sizeText(read)}`)
  return [...lines, detail.checked ? 'counted and compared: it is what was backed up' : 'not counted and compared']
}

/** What a restore makes, and what is lost. */
export function previewLines(preview: RestorePreview): string[] {
  return [
    ...preview.creates.map((what) => `makes     ${what}`),
    ...preview.replaces.map((one) => {
      const size = one.size_bytes === undefined ? '' : `  (${sizeText(one.size_bytes)} there now are lost)`
      return `replaces  ${one.what}${size}${one.note ? `  ${one.note}` : ''}`
    }),
    `writes    ${sizeText(preview.bytes)}`,
    ...preview.findings.map((finding) => `${finding.severity}: ${finding.message}${finding.hint ? `. ${finding.hint}` : ''}`),
  ]
}

function verifyLines(job: JobView): string[] {
  const detail = verifyDetailSchema.safeParse(job.detail)
  if (!detail.success) return []
  const { valid, plan_only, bytes_checked, objects_checked, packs, errors } = detail.data
  const budget =
    packs &&
    `${countText(packs.chosen)} of ${countText(packs.needed)} packs, ${sizeText(packs.chosen_bytes)} of ${sizeText(packs.needed_bytes)}`
  if (plan_only) {
    return [
      `reads     ${sizeText(bytes_checked)} in ${countText(objects_checked)} objects`,
      ...(budget ? [`packs     ${budget}`] : []),
      ...errors.map((error) => `${error.code}  ${error.object ?? ''}  ${error.message}`),
      'only a plan: nothing was verified',
    ]
  }
  return [
    `${valid ? 'valid' : 'NOT VALID'}: ${sizeText(bytes_checked)} in ${countText(objects_checked)} objects read back and compared`,
    ...(packs && packs.chosen < packs.needed ? [`only ${budget}: the others were left out by the budget`] : []),
    ...errors.map((error) => `${error.code}  ${error.object ?? ''}  ${error.message}`),
  ]
}

function testRestoreLines(job: JobView): string[] {
  const detail = testRestoreDetailSchema.safeParse(job.detail)
  if (!detail.success) return []
  const { valid, total, findings, seconds } = detail.data
  return [
    `${valid ? 'valid' : 'NOT VALID'}: ${countText(total.found)} of ${countText(total.expected)} match, ${durationText(seconds)}`,
    ...findings.map((finding) => `${finding.code}  ${finding.message}`),
  ]
}

function discoverLines(job: JobView): string[] {
  const found = z.object({ found: z.array(foundSourceSchema) }).safeParse(job.detail)
  if (!found.success) return []
  return found.data.found.flatMap((source) => [
    `${source.engine}  ${source.title}  ${sizeText(source.size_bytes)}`,
    `  protect it: ${addCommand(source)}`,
    ...source.findings.map((finding) => `  ${finding.severity}: ${finding.message}`),
  ])
}
