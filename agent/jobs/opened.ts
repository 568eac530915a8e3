import { newAgeIdentity, recipientOf } from '../../shared/age/age.ts'
import { HoldfastError } from '../../shared/errors.ts'
import type { BackupRef } from '../../shared/generated/holdfast/agent/v1/jobs.ts'
import type { Manifest } from '../../shared/manifest/manifest.ts'
import { verifyManifest } from '../../shared/manifest/verify.ts'
import { openDataKeys } from '../../shared/repository/keys.ts'
import { openReader } from '../../shared/repository/reader.ts'
import type { BackupReader, ReaderOptions } from '../../shared/repository/repository.ts'
import { Secret } from '../../shared/secret.ts'
import type { JobContext } from './context.ts'
import { waitForUnlock } from './unlock.ts'

/**
 * What is needed to read the backup that the command names. The data keys come sealed to a recipient made on this host for this job alone, by the
 * control plane or, where it cannot open them, by an operator. Every manifest
 * is checked with the fleet's verifying key from this agent's own enrolment, and against what the command said: a control plane's
 * bucket is untrusted, and so is whoever answers in its place.
 */
export async function readerOptions(job: JobContext, backup: BackupRef, leanedOn: readonly BackupRef[]): Promise<ReaderOptions> {
  const { jobKey } = job.start
  const identity = jobKey === null ? await newAgeIdentity() : new Secret(jobKey)
  const recipient = await recipientOf(identity)
  if (jobKey !== null) await waitForUnlock(job, recipient)
  const answer = await job.parent.openBackups(recipient)
  const manifests = new Map<string, Manifest>()
  const keys = new Map<string, Secret<Buffer>>()
  for (const expected of [backup, ...leanedOn]) {
    const opened = answer.backups.find((candidate) => candidate.backup?.id === expected.id)
    if (!opened) {
      throw new HoldfastError('object_missing', `the control plane did not open backup ${expected.id}`, {
        hint: 'Look at the backup with `holdfast show`; its manifest or keys may be gone.',
      })
    }
    manifests.set(expected.id, checkedManifest(Buffer.from(opened.manifest), expected, job.start.agent.verifyingKey))
    for (const file of opened.keys) {
      const sealed = await openDataKeys(Buffer.from(file), [identity])
      for (const key of sealed.keys) keys.set(keyName(sealed.backup.id, key.attempt), key.dataKey)
    }
  }
  const manifest = manifests.get(backup.id) as Manifest
  manifests.delete(backup.id)
  return {
    manifest,
    leansOn: manifests,
    keys: (backupId, attempt) => keys.get(keyName(backupId, attempt)),
    objects: job.objects,
    signal: job.signal,
    scratch: job.run.scratch,
    onProgress: ({ readBytes, foundBytes, chunks }) => job.report({ readBytes, skippedBytes: foundBytes, chunks }),
  }
}

export async function openBackup(job: JobContext, backup: BackupRef, leanedOn: readonly BackupRef[]): Promise<BackupReader> {
  return openReader(await readerOptions(job, backup, leanedOn))
}

const keyName = (backupId: string, attempt: number): string => `${backupId} ${attempt}`

function checkedManifest(bytes: Buffer, expected: BackupRef, verifyingKey: string): Manifest {
  const { manifest, sha256 } = verifyManifest(bytes, { verifyingKey })
  const facts = manifest.facts
  const same = facts.id === expected.id && facts.host === expected.host && facts.source === expected.source
  if (same && sha256.equals(Buffer.from(expected.manifestSha256))) return manifest
  throw new HoldfastError('manifest_forged', `the manifest of ${expected.id} is not the one that the catalog recorded`, {
    hint: 'Somebody changed or swapped it in the bucket: restore from another copy, and look at who can write there.',
  })
}
