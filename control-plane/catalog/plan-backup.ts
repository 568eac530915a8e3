import { and, asc, eq, inArray, isNull } from 'drizzle-orm'
import type { Chunking } from '../../shared/artifacts.ts'
import { HoldfastError } from '../../shared/errors.ts'
import { newBackupId } from '../../shared/ids.ts'
import {
  type BaseCandidate,
  type BaseChoice,
  chooseBase,
  chooseResend,
  type FullReason,
  RESEND_PERMILLE,
  sameParts,
} from '../domain/bases.ts'
import { finestChunking } from '../domain/chunks.ts'
import type { BackupType, SpecOf } from '../domain/job-spec.ts'
import { type Policy, policySchema, selectsSource } from '../domain/policy.ts'
import { type FleetRecipients, isWithheld, type RecipientChoice, sealingOf, strictestChoice } from '../domain/recipients.ts'
import { type BackupRef, type BackupView, backupsOfSource, createBackup, setLeans } from './backups.ts'
import type { Db } from './catalog.ts'
import type { JobRow } from './job-changes.ts'
import { damagedPacks, unreadableAmong } from './ledger.ts'
import { listPolicies } from './policies.ts'
import { backups, jobs } from './schema/schema.ts'
import { getSource, type SourceRow } from './sources.ts'

/** What a backup command says. */
export interface BackupDispatch {
  readonly backup: BackupRef
  readonly target: string
  /** What is really made. */
  readonly type: BackupType
  /** Why it is a full although something smaller was asked for. */
  readonly reason: FullReason | null
  readonly base: BackupRef | null
  /** What the base leans on, itself left out. */
  readonly leanedOn: readonly BackupRef[]
  readonly recipients: readonly string[]
  /** Object keys of packs whose chunks count as unknown. */
  readonly damagedPacks: readonly string[]
  readonly resendBackupIds: readonly string[]
  readonly resendPermille: number
  /** Bytes of the largest good backup of the same parts; 0 without one. An incremental of a tree reads less than the tree has. */
  readonly expectedBytes: number
  /** As a policy says; null: as the engine has it. */
  readonly chunking: Chunking | null
}

/**
 * Chooses the base under a share lock on every backup of the source, and writes what may be leaned on in the same transaction:
 * retention, which locks a backup for update before it removes it, either came first and is seen here, or comes later and
 * finds the rows. A retry keeps its backup and is given its bases afresh.
 */
export async function planBackup(
  tx: Db,
  job: JobRow,
  spec: SpecOf<'backup'>,
  fleet: FleetRecipients,
  now: Date,
): Promise<BackupDispatch> {
  if (job.sourceId === null) throw new HoldfastError('internal', `backup job ${job.id} names no source`)
  const source = await getSource(tx, job.sourceId)
  await tx.select({ id: backups.id }).from(backups).where(eq(backups.sourceId, source.id)).orderBy(asc(backups.id)).for('share')
  const all = (await backupsOfSource(tx, source.id)).filter(
    (backup) => backup.engine === source.engine && backup.jobId !== job.id,
  )
  const policies = await policiesOf(tx, source)
  const { recipients, withheldFrom } = sealingOf(await recipientChoice(tx, job, policies, fleet), fleet)
  const choice = chooseBase({ ...spec, recipients, withheldFrom, candidates: await candidatesFor(tx, all, spec.target) })
  const named = new Map(all.map((backup) => [backup.id, backup]))
  const refs = choice.leanedOn.map((id) => named.get(id)).filter((backup) => backup !== undefined)
  const id = spec.dry_run ? newBackupId(now) : await backupOf(tx, job, source, spec, choice, recipients, now)
  if (!spec.dry_run) await setLeans(tx, id, choice.leanedOn)
  return {
    backup: { id, host: source.host, source: source.name, manifestSha256: null },
    target: spec.target,
    type: choice.type,
    reason: choice.reason,
    base: refs.map(refOf).find((ref) => ref.id === choice.baseId) ?? null,
    leanedOn: refs.map(refOf).filter((ref) => ref.id !== choice.baseId),
    recipients,
    damagedPacks: await damagedPacks(tx, choice.leanedOn),
    resendBackupIds: chooseResend(
      choice.type,
      refs.map((ref) => ({ ...ref, retired: ref.retiredAt !== null })),
    ),
    resendPermille: RESEND_PERMILLE,
    expectedBytes: Math.max(
      0,
      ...all
        .filter((backup) => backup.status === 'good' && sameParts(backup.parts, spec.parts))
        .map((backup) => backup.sizeBytes ?? 0),
    ),
    chunking: finestChunking(policies.flatMap((policy) => policy.chunks ?? [])),
  }
}

/** Those that select the source. A policy that this program cannot read decides nothing here, as elsewhere. */
async function policiesOf(tx: Db, source: SourceRow): Promise<Policy[]> {
  const all = (await listPolicies(tx)).flatMap((row) => policySchema.safeParse(row.spec).data ?? [])
  return all.filter(({ select }) => selectsSource(select, source))
}

/**
 * As the policies of the source say now. A further attempt keeps to what the first began with: its packs may be the first's, whose key
 * file lies in the store already.
 */
async function recipientChoice(
  tx: Db,
  job: JobRow,
  policies: readonly Policy[],
  { fleet }: FleetRecipients,
): Promise<RecipientChoice> {
  if (job.backupId !== null) {
    const [begun] = await tx.select({ recipients: backups.recipients }).from(backups).where(eq(backups.id, job.backupId))
    return isWithheld(begun?.recipients ?? null, fleet) ? 'recovery' : 'all'
  }
  return strictestChoice(policies.map((policy) => policy.recipients))
}

async function candidatesFor(tx: Db, all: readonly BackupView[], target: string): Promise<BaseCandidate[]> {
  const unreadable = await unreadableAmong(
    tx,
    all.filter((backup) => backup.tombstonedAt === null).map((backup) => backup.id),
  )
  const unfound = await withoutManifest(
    tx,
    all.map((backup) => backup.id),
  )
  return all.map((backup) => ({
    id: backup.id,
    type: backup.type,
    createdAt: backup.createdAt,
    state: backup.status === 'good' ? 'good' : backup.retiredAt !== null && backup.tombstonedAt === null ? 'retired' : 'gone',
    parts: backup.parts,
    onTarget: backup.copies.some((copy) => copy.target === target && (copy.state === 'good' || copy.state === 'damaged')),
    unreadable: unreadable.has(backup.id) || unfound.has(backup.id),
    recipients: backup.recipients ?? [],
    leansOn: backup.leansOn,
  }))
}

/** Those that a rebuilt catalog knows from its self-backup alone: no target had their manifest. */
async function withoutManifest(tx: Db, ids: readonly string[]): Promise<Set<string>> {
  if (ids.length === 0) return new Set()
  const rows = await tx
    .select({ id: backups.id })
    .from(backups)
    .where(and(inArray(backups.id, [...ids]), isNull(backups.manifest)))
  return new Set(rows.map((row) => row.id))
}

/** The job's backup: made by the first attempt, kept by the others. */
async function backupOf(
  tx: Db,
  job: JobRow,
  source: SourceRow,
  spec: SpecOf<'backup'>,
  choice: BaseChoice,
  recipients: readonly string[],
  now: Date,
): Promise<string> {
  if (job.backupId !== null) {
    await tx
      .update(backups)
      .set({ type: choice.type, recipients: [...recipients] })
      .where(and(eq(backups.id, job.backupId), inArray(backups.status, ['running'])))
    return job.backupId
  }
  const backup = await createBackup(tx, { ...spec, source, type: choice.type, jobId: job.id, recipients }, now)
  await tx.update(jobs).set({ backupId: backup.id }).where(eq(jobs.id, job.id))
  return backup.id
}

const refOf = (backup: BackupView): BackupRef => ({
  id: backup.id,
  host: backup.host,
  source: backup.source,
  manifestSha256: backup.manifestSha256,
})
