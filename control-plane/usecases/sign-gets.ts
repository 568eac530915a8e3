import { HoldfastError } from '../../shared/errors.ts'
import type { ObjectToGet, SignedRequest } from '../../shared/generated/holdfast/agent/v1/objects.ts'
import { backupFolder, manifestKey, objectKey } from '../../shared/manifest/layout.ts'
import { closure } from '../catalog/backups.ts'
import { ledgerLines } from '../catalog/ledger.ts'
import type { ControlPlane } from './control-plane.ts'
import { type RunningJob, requireRunning } from './running-job.ts'
import { wireAddress } from './wire-address.ts'

const MAX_OBJECTS = 256

/**
 * Addresses to read objects of exactly the backups that the command named: for restores and checks the backup and what it leans on;
 * for a backup
 * the index and the packs of what it leans on, to rebuild its list of known chunks: its agent has the key of neither data nor contents.
 */
export async function signGets(
  cp: ControlPlane,
  agentId: string,
  request: { jobId: string; attempt: number; objects: readonly ObjectToGet[] },
): Promise<SignedRequest[]> {
  const running = await requireRunning(cp, agentId, request, ['backup', 'restore', 'verify', 'test-restore'])
  if (request.objects.length > MAX_OBJECTS)
    throw new HoldfastError('too_large', `${request.objects.length} addresses were asked for at once`)
  const allowed = await readableKeys(
    cp,
    running,
    request.objects.map((object) => object.key),
  )
  const target = await cp.target(running.backup.target)
  return Promise.all(
    request.objects.map(async ({ key }) => {
      if (!allowed.has(key)) {
        throw new HoldfastError('forbidden', `object ${JSON.stringify(key.slice(0, 200))} is not part of this job`)
      }
      return wireAddress(await target.signGet(key))
    }),
  )
}

/** Of the keys asked for, those that the job may read. */
async function readableKeys(cp: ControlPlane, { job, backup }: RunningJob, asked: readonly string[]): Promise<Set<string>> {
  const { db } = cp.catalog
  const leaned = await closure(db, backup.id)
  const readable = new Set<string>()
  const indexOnly = job.kind === 'backup'
  for (const ref of indexOnly ? leaned : [backup, ...leaned]) {
    const folder = backupFolder(ref)
    const names = asked.filter((key) => key.startsWith(folder)).map((key) => key.slice(folder.length))
    const wanted = indexOnly ? names.filter((name) => name.startsWith('index/') || name.startsWith('packs/')) : names
    for (const line of await ledgerLines(db, ref.id, wanted)) readable.add(objectKey(ref, line.name))
    // clear for whoever reads the bucket, and signed
    readable.add(manifestKey(ref))
  }
  return readable
}
