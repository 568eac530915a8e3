import { HoldfastError } from '../../shared/errors.ts'
import {
  BackupKind,
  type JobCommand,
  FullReason as WireFullReason,
  type BackupRef as WireRef,
} from '../../shared/generated/holdfast/agent/v1/jobs.ts'
import type { BackupRef } from '../catalog/backups.ts'
import type { ClaimedJob } from '../catalog/claim-jobs.ts'
import type { BackupDispatch } from '../catalog/plan-backup.ts'
import type { VerifiedPacks } from '../catalog/verified-packs.ts'
import type { FullReason } from '../domain/bases.ts'
import type { JobSpec } from '../domain/job-spec.ts'

const KINDS = { full: BackupKind.FULL, incremental: BackupKind.INCREMENTAL, differential: BackupKind.DIFFERENTIAL } as const

const FULL_REASONS: Readonly<Record<FullReason, WireFullReason>> = {
  no_good_backup: WireFullReason.NO_GOOD_BACKUP,
  no_full_backup: WireFullReason.NO_FULL_BACKUP,
  base_on_other_target: WireFullReason.BASE_ON_OTHER_TARGET,
  base_damaged: WireFullReason.BASE_DAMAGED,
  base_recipients_differ: WireFullReason.BASE_RECIPIENTS_DIFFER,
}

/** What the catalog knows beside the job. */
interface Known {
  /** Of the host that made the backup which the job reads. */
  readonly originLabels: Readonly<Record<string, string>>
  /** For a verification with a budget. */
  readonly verified: readonly VerifiedPacks[]
}

/** The command of a claimed job. Typed and closed: nothing in it is a command line, a path of a program or a credential. */
export function commandOf(claimed: ClaimedJob, known: Known): JobCommand {
  return {
    jobId: claimed.job.id,
    attempt: claimed.job.attempt,
    deadlineSeconds: claimed.job.deadlineSeconds,
    needsUnlock: claimed.needsUnlock,
    work: workOf(claimed, known),
  }
}

function workOf(claimed: ClaimedJob, { originLabels, verified }: Known): JobCommand['work'] {
  const { spec } = claimed
  switch (spec.kind) {
    case 'backup':
      return { $case: 'backup', value: backupWork(spec, needed(claimed.dispatch)) }
    case 'restore': {
      const reads = needed(claimed.reads)
      return {
        $case: 'restore',
        value: {
          backup: wireRef(reads.backup),
          leanedOn: reads.leanedOn.map(wireRef),
          viaSource: spec.via_source,
          targetName: spec.target_name,
          parts: spec.parts,
          mapping: spec.mapping,
          overwriteExisting: spec.overwrite_existing,
          verifyIntegrity: spec.verify_integrity,
          planOnly: spec.plan_only,
          targetTenant: spec.target_tenant,
          originLabels: { ...originLabels },
        },
      }
    }
    case 'verify': {
      const reads = needed(claimed.reads)
      return {
        $case: 'verify',
        value: {
          backup: wireRef(reads.backup),
          leanedOn: reads.leanedOn.map(wireRef),
          olderThanSeconds: spec.older_than_seconds,
          sharePermille: spec.share_permille,
          planOnly: spec.plan_only,
          verified: verified.map(({ backupId, packs }) => ({ backupId, packs: packs.map((pack) => ({ ...pack })) })),
        },
      }
    }
    case 'test-restore': {
      const reads = needed(claimed.reads)
      return {
        $case: 'testRestore',
        value: { backup: wireRef(reads.backup), leanedOn: reads.leanedOn.map(wireRef), viaSource: spec.via_source },
      }
    }
    case 'discover':
      return { $case: 'discover', value: {} }
    case 'preflight':
      return { $case: 'preflight', value: { source: spec.source } }
    case 'validate':
      throw new HoldfastError('internal', 'a validation is the control plane’s own work')
  }
}

function backupWork(spec: Extract<JobSpec, { kind: 'backup' }>, dispatch: BackupDispatch) {
  return {
    backup: wireRef(dispatch.backup),
    kind: KINDS[dispatch.type],
    base: dispatch.base ? wireRef(dispatch.base) : undefined,
    recipients: [...dispatch.recipients],
    parts: spec.parts,
    dryRun: spec.dry_run,
    damagedPacks: [...dispatch.damagedPacks],
    resendBackupIds: [...dispatch.resendBackupIds],
    resendPermille: dispatch.resendPermille,
    leanedOn: dispatch.leanedOn.map(wireRef),
    expectedBytes: BigInt(dispatch.expectedBytes),
    pageBytes: dispatch.chunking?.kind === 'fixed' ? dispatch.chunking.bytes : 0,
    averageChunkBytes: dispatch.chunking?.kind === 'content-defined' ? dispatch.chunking.averageBytes : 0,
    fullReason: dispatch.reason === null ? WireFullReason.UNSPECIFIED : FULL_REASONS[dispatch.reason],
  }
}

const wireRef = (ref: BackupRef): WireRef => ({
  host: ref.host,
  source: ref.source,
  id: ref.id,
  manifestSha256: ref.manifestSha256 ?? Buffer.alloc(0),
})

function needed<T>(value: T | null): T {
  if (value !== null) return value
  throw new HoldfastError('internal', 'a claimed job lacks what its command needs')
}
