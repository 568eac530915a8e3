import pLimit from 'p-limit'
import { HoldfastError } from '../../shared/errors.ts'
import type { ObjectToPut, SignedRequest } from '../../shared/generated/holdfast/agent/v1/objects.ts'
import { objectKey } from '../../shared/manifest/layout.ts'
import { objectFactSchema } from '../../shared/manifest/manifest.ts'
import { MAX_ADDRESS_SECONDS, MAX_OBJECT_BYTES, type StorageTarget } from '../../shared/storage/target.ts'
import { ledgerLines, recordAddress } from '../catalog/ledger.ts'
import type { ControlPlane } from './control-plane.ts'
import { type RunningJob, requireRunning } from './running-job.ts'
import { compareStored } from './stored-object.ts'
import { wireAddress } from './wire-address.ts'

/** More than a writer ever asks at once. */
const MAX_OBJECTS = 64

interface Wanted {
  readonly name: string
  readonly size: number
  readonly sha256: Buffer
}

/**
 * Addresses for objects of the attempt's own backup. Each is in the ledger before its address exists, so an object that was not asked
 * for is never believed. An object that was asked for before is looked at first: a lost reply is no reason to send it again.
 */
export async function signPuts(
  cp: ControlPlane,
  agentId: string,
  request: { jobId: string; attempt: number; objects: readonly ObjectToPut[] },
): Promise<SignedRequest[]> {
  const job = await requireRunning(cp, agentId, request, ['backup'])
  const wanted = request.objects.map((object) => checked(object, request.attempt))
  if (wanted.length > MAX_OBJECTS) throw new HoldfastError('too_large', `${wanted.length} addresses were asked for at once`)
  const target = await cp.target(job.backup.target)
  const names = wanted.map((object) => object.name)
  const before = new Map((await ledgerLines(cp.catalog.db, job.backup.id, names)).map((row) => [row.name, row]))
  const limit = pLimit(8)
  const present = await Promise.all(wanted.map((object) => limit(() => isThere(target, job, object, before.get(object.name)))))
  const expiresAt = new Date(cp.clock.now().getTime() + MAX_ADDRESS_SECONDS * 1000)
  await cp.catalog.transaction(async (tx) => {
    await requireRunning(cp, agentId, request, ['backup'], tx)
    await recordAddress(tx, { id: job.backup.id, attempt: request.attempt }, wanted, expiresAt)
  })
  return Promise.all(
    wanted.map(async (object, index) => {
      const address = await target.signPut(objectKey(job.backup, object.name), object)
      return wireAddress(address, present[index] === true)
    }),
  )
}

/** True when the store has exactly this object. */
async function isThere(target: StorageTarget, job: RunningJob, wanted: Wanted, before: Wanted | undefined): Promise<boolean> {
  if (!before) return false
  const key = objectKey(job.backup, wanted.name)
  const stored = await compareStored(target, key, wanted)
  if (stored === 'absent') return false
  if (stored === 'same') return true
  throw new HoldfastError('object_conflict', `${key} is in the store with other bytes than were asked for`, {
    hint: 'Somebody else writes into the bucket: look at who can. The next attempt uses new names.',
    retry: true,
  })
}

function checked(object: ObjectToPut, attempt: number): Wanted {
  const size = Number(object.size)
  const sha256 = Buffer.from(object.sha256)
  const fact = objectFactSchema.safeParse({ name: object.name, size, sha256: sha256.toString('hex') })
  if (!fact.success || size > MAX_OBJECT_BYTES || sha256.length !== 32) {
    throw new HoldfastError(
      'invalid_argument',
      `object ${JSON.stringify(object.name.slice(0, 100))} cannot be stored in a backup`,
      {
        hint: 'Objects are contents/N, index/N, keys/N and packs/N-random of the attempt N, of at most 64 MiB.',
      },
    )
  }
  const owner = /^[a-z]+\/(\d+)/.exec(object.name)?.[1]
  if (Number(owner) !== attempt) {
    throw new HoldfastError('forbidden', `object ${object.name} belongs to another attempt than ${attempt}`)
  }
  return { name: object.name, size, sha256 }
}
