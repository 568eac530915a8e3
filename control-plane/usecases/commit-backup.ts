import { X509Certificate } from 'node:crypto'
import pLimit from 'p-limit'
import { HoldfastError } from '../../shared/errors.ts'
import { parseJson } from '../../shared/json.ts'
import { type BackupPlaceRef, manifestKey, objectKey } from '../../shared/manifest/layout.ts'
import { type Facts, MAX_MANIFEST_BYTES, type SignedFacts, signedFactsSchema } from '../../shared/manifest/manifest.ts'
import { commitManifest } from '../../shared/manifest/sign.ts'
import { verifySignedFacts } from '../../shared/manifest/verify.ts'
import { isBlurOf } from '../../shared/repository/format.ts'
import { type BackupDetail, backupDetailSchema } from '../../shared/results.ts'
import type { StorageTarget } from '../../shared/storage/target.ts'
import { agentUri } from '../../shared/x509/authority.ts'
import { isIssuedBy, readChain } from '../../shared/x509/read.ts'
import { closure, getBackup, manifestOf } from '../catalog/backups.ts'
import { beginCommit } from '../catalog/commits.ts'
import { keepDetail } from '../catalog/job-reports.ts'
import { confirmObjects, objectsOf } from '../catalog/ledger.ts'
import { withdrawAgain } from '../catalog/removal.ts'
import type { Fleet } from '../fleet/authority.ts'
import { checkFacts } from './check-facts.ts'
import type { ControlPlane } from './control-plane.ts'
import { removeProven } from './destroy-backups.ts'
import { type RunningJob, requireRunning } from './running-job.ts'
import { compareStored, type Stored } from './stored-object.ts'

/** Looks at the store at once, in any order. */
const HEADS_AT_ONCE = 16

/**
 * The commit point. The agent's facts are checked against what was asked of it and against the store itself; the manifest is signed and
 * recorded with its hash, and only then written. Every step may be repeated after a crash or a lost reply; a fenced attempt gets no further
 * than the first.
 */
export async function commitBackup(
  cp: ControlPlane,
  agentId: string,
  request: { jobId: string; attempt: number; facts: Uint8Array; detailJson: string },
): Promise<Buffer> {
  const running = await requireRunning(cp, agentId, request, ['backup'])
  const signed = parseFacts(request.facts)
  await checkOrigin(cp, running, signed)
  const target = await cp.target(running.backup.target)
  await checkStore(running.backup, signed.facts, target)
  const { facts } = signed
  const detail = parseDetail(request.detailJson)
  await cp.catalog.transaction((tx) =>
    confirmObjects(
      tx,
      running.backup.id,
      facts.objects.map((object) => object.name),
      cp.clock.now(),
    ),
  )
  const ref = { by: { agentId, epoch: null }, jobId: request.jobId, attempt: request.attempt }
  // before the commit, since the job may have succeeded before the agent's own result arrives
  if (detail) await keepDetail(cp.catalog.db, ref, detail)
  const begun = await beginCommit(
    cp.catalog.db,
    ref,
    {
      type: facts.type,
      leansOn: facts.leans_on.map((lean) => lean.id),
      recipients: facts.recipients,
      readBytes: exactOf(facts.read_bytes, detail?.read_bytes),
      storedBytes: facts.stored_bytes,
      totalCount: exactOf(facts.total_count, detail?.total_count),
    },
    cp.clock.now(),
    ({ committedAt, sequence, predecessor }) => {
      const commit = {
        fleet_id: cp.fleet.id,
        committed_at: committedAt.toISOString(),
        sequence,
        predecessor: predecessor?.toString('hex') ?? null,
      }
      return commitManifest(signed, commit, cp.fleet.signer).bytes
    },
  )
  await writeManifest(cp, running.backup, target, { bytes: begun.manifest, sha256: begun.manifestSha256 })
  return begun.manifestSha256
}

/**
 * A control plane may sleep before the write, and another one fail the backup meanwhile and take the manifest out of the store: what then
 * still arrives goes again. The catalog is told first, so that it goes also when this one dies here.
 */
async function writeManifest(
  cp: ControlPlane,
  backup: BackupPlaceRef,
  target: StorageTarget,
  manifest: { readonly bytes: Buffer; readonly sha256: Buffer },
): Promise<void> {
  await target.put(manifestKey(backup), manifest.bytes, { sha256: manifest.sha256 })
  const { status } = await getBackup(cp.catalog.db, backup.id)
  if (status === 'running' || status === 'good') return
  await withdrawAgain(cp.catalog.db, backup.id)
  await removeProven(target, manifestKey(backup))
  throw new HoldfastError('attempt_fenced', `backup ${backup.id} was given up while its manifest was being written`)
}

function parseFacts(bytes: Uint8Array): SignedFacts {
  if (bytes.length > MAX_MANIFEST_BYTES) throw new HoldfastError('too_large', 'the facts of the backup are over 64 MiB')
  try {
    return signedFactsSchema.parse(parseJson(Buffer.from(bytes)))
  } catch (error) {
    throw new HoldfastError('backup_invalid', 'the facts that the agent offers do not have their form', {
      hint: 'Update the agent and make the backup again.',
      cause: error,
    })
  }
}

/** Null of an agent that is older than the field. */
function parseDetail(text: string): BackupDetail | null {
  if (text === '') return null
  try {
    return backupDetailSchema.parse(JSON.parse(text))
  } catch (error) {
    throw new HoldfastError('backup_invalid', "the agent's answer of the job does not have its form", {
      hint: 'Update the agent and make the backup again.',
      cause: error,
    })
  }
}

/** The figure of which the signed facts, which lie in the clear, hold no more than its rounding. */
const exactOf = (rounded: number, exact: number | undefined): number =>
  exact !== undefined && isBlurOf(exact, rounded) ? exact : rounded

async function checkOrigin(cp: ControlPlane, { job, backup }: RunningJob, signed: SignedFacts): Promise<void> {
  verifySignedFacts(signed)
  requireAgent(signed, cp.fleet, job.agentId)
  const bases = await closure(cp.catalog.db, backup.id)
  const ledger = await objectsOf(cp.catalog.db, backup.id)
  checkFacts(signed.facts, {
    fleetId: cp.fleet.id,
    host: backup.host,
    source: backup.source,
    engine: backup.engine,
    id: backup.id,
    attempt: job.attempt,
    type: backup.type,
    recipients: backup.recipients ?? [],
    mayLeanOn: new Map(bases.map((base) => [base.id, base.manifestSha256?.toString('hex') ?? ''])),
    ledger: new Map(ledger.map((object) => [object.name, object])),
  })
}

/** The signing certificate is of this fleet's authority, and of the agent that calls. */
function requireAgent(signed: SignedFacts, fleet: Fleet, agentId: string): void {
  const [leaf] = readChain(signed.agent.chain[0] ?? '') ?? []
  const mine = leaf?.subjectAltName?.includes(agentUri(fleet.id, agentId)) === true
  if (leaf && mine && isIssuedBy(leaf, new X509Certificate(fleet.authorityPem))) return
  throw new HoldfastError(
    'backup_invalid',
    'the facts are signed by another certificate than that of the agent that offers them',
    {
      hint: 'An agent that offers what others signed may be stolen: look at it, and revoke it if in doubt.',
    },
  )
}

/** The store's own word on every object: there, whole, and the one that was asked for. */
export async function checkStore(backup: BackupPlaceRef, facts: Facts, target: StorageTarget): Promise<void> {
  const limit = pLimit(HEADS_AT_ONCE)
  await Promise.all(
    facts.objects.map((object) =>
      limit(async () => {
        const wanted = { size: object.size, sha256: Buffer.from(object.sha256, 'hex') }
        const stored = await compareStored(target, objectKey(backup, object.name), wanted)
        if (stored !== 'same') throw unstored(object.name, stored)
      }),
    ),
  )
}

const unstored = (name: string, stored: Stored): HoldfastError =>
  new HoldfastError('object_missing', `object ${name} of the backup is ${stored} in the store`, {
    hint: 'The attempt is tried again; what is whole in the store is used.',
    retry: true,
  })

/** After a crash between the record and the manifest: the same manifest is written again. */
export async function resumeCommit(cp: ControlPlane, job: { id: string; backupId: string | null }): Promise<void> {
  const backup = await getBackup(cp.catalog.db, job.backupId ?? '')
  const stored = await manifestOf(cp.catalog.db, backup.id)
  if (!stored) throw new HoldfastError('internal', `job ${job.id} is committing without a manifest`)
  const target = await cp.target(backup.target)
  await writeManifest(cp, backup, target, stored)
}
