import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { z } from 'zod'
import { writeDurably } from '../../shared/durable-file.ts'
import { HoldfastError } from '../../shared/errors.ts'
import { readJson } from '../../shared/json.ts'
import { FLEET_OBJECT } from '../../shared/manifest/layout.ts'
import type { StorageTarget } from '../../shared/storage/target.ts'
import type { FleetKeyRow } from '../catalog/identity-fleet.ts'

/**
 * The fleet's sealed keys as one document: in the catalog as rows, in the data folder as `fleet.json`, in every target as
 * `holdfast-keys.json`. It opens with the key service or a recovery identity, never by itself.
 */

export type SealedKey = FleetKeyRow

export interface FleetRecord {
  readonly fleetId: string
  readonly recoveryRecipients: readonly string[]
  readonly createdAt: Date
  readonly keys: readonly SealedKey[]
}

/** Beside holdfast.json at the root of every target. */
export const KEYS_OBJECT = 'holdfast-keys.json'
const FILE = 'fleet.json'
const MAX_BYTES = 1024 * 1024

const recordSchema = z.strictObject({
  format: z.literal(1),
  fleet_id: z.string().regex(/^f[0-9a-hjkmnp-tv-z]{15}$/),
  created_at: z.iso.datetime(),
  recovery_recipients: z.array(z.string().max(200)).min(1).max(100),
  keys: z
    .array(
      z.strictObject({
        name: z.enum(['authority', 'signing', 'identity', 'addresses']),
        public: z.string().max(10_000),
        protected: z.record(z.string().max(100), z.string().max(200_000)),
        recovery: z.string().max(200_000),
        created_at: z.iso.datetime(),
      }),
    )
    .length(4),
})

export function recordText(record: FleetRecord): string {
  const body: z.input<typeof recordSchema> = {
    format: 1,
    fleet_id: record.fleetId,
    created_at: record.createdAt.toISOString(),
    recovery_recipients: [...record.recoveryRecipients],
    keys: record.keys.map((key) => ({
      name: key.name as z.input<typeof recordSchema>['keys'][number]['name'],
      public: key.publicPart,
      protected: key.protectedPart,
      recovery: key.recoveryPart,
      created_at: key.createdAt.toISOString(),
    })),
  }
  return `${JSON.stringify(body, null, 2)}\n`
}

/** Untrusted text, from a file or a bucket. */
export function parseRecord(text: string, where: string): FleetRecord {
  const parsed = readJson(text.length <= MAX_BYTES ? text : '', recordSchema)
  if (!parsed.success) {
    throw new HoldfastError('object_damaged', `${where} cannot be read as the fleet's sealed keys`, {
      hint: `Take ${KEYS_OBJECT} from another target, or ${FILE} from another control plane.`,
      cause: parsed.error,
    })
  }
  const { data } = parsed
  return {
    fleetId: data.fleet_id,
    recoveryRecipients: data.recovery_recipients,
    createdAt: new Date(data.created_at),
    keys: data.keys.map((key) => ({
      name: key.name,
      publicPart: key.public,
      protectedPart: key.protected,
      recoveryPart: key.recovery,
      createdAt: new Date(key.created_at),
    })),
  }
}

/** Null when the folder has none. */
export async function readRecordFile(folder: string): Promise<FleetRecord | null> {
  const file = path.join(folder, FILE)
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null
    throw error
  })
  return text === null ? null : parseRecord(text, file)
}

export async function writeRecordFile(folder: string, record: FleetRecord): Promise<void> {
  await writeDurably(path.join(folder, FILE), recordText(record))
}

/**
 * Puts `holdfast.json` and the sealed keys into a target. Called when a target is added and after each change of keys or
 * recovery recipients; may be repeated. A target that belongs to another fleet is refused, so that two fleets never mix.
 */
export async function publishRecord(target: StorageTarget, record: FleetRecord, verifyingKey: string): Promise<void> {
  const header = Buffer.from(`${JSON.stringify({ format: 1, fleet_id: record.fleetId, verifying_key: verifyingKey })}\n`)
  const there = (await target.head(FLEET_OBJECT)) ? await target.get(FLEET_OBJECT) : null
  if (there && !there.equals(header)) {
    throw new HoldfastError('conflict', `target ${target.name} belongs to another fleet`, {
      hint: `Give each fleet a prefix or folder of its own, or remove ${FLEET_OBJECT} if that fleet is gone for good.`,
    })
  }
  if (!there) await target.put(FLEET_OBJECT, header)
  const keys = Buffer.from(recordText(record))
  const old = (await target.head(KEYS_OBJECT)) ? await target.get(KEYS_OBJECT) : null
  if (!old?.equals(keys)) await target.put(KEYS_OBJECT, keys, { overwrite: true })
}

/** The sealed keys as a target holds them, for rebuilding; null when it has none. */
export async function readPublishedRecord(target: StorageTarget): Promise<FleetRecord | null> {
  if (!(await target.head(KEYS_OBJECT))) return null
  return parseRecord((await target.get(KEYS_OBJECT)).toString('utf8'), `${KEYS_OBJECT} of target ${target.name}`)
}
