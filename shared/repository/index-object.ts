import { z } from 'zod'
import { sealTo } from '../age/age.ts'
import { listOf, readJson } from '../json.ts'
import { type BackupPlaceRef, indexName, objectKey } from '../manifest/layout.ts'
import type { Secret } from '../secret.ts'
import { ByteReader } from './bytes.ts'
import { CHUNK_UNITS } from './chunk-unit.ts'
import { requireReadable } from './contents.ts'
import { damaged, INDEX_MAGIC, LIMITS, padme, placeOf } from './format.ts'
import { openSealed } from './keys.ts'

/** The object `index` (FORMAT.md section 10). */

const number = z.number().int().nonnegative().max(Number.MAX_SAFE_INTEGER)
const hex32 = z.string().regex(/^[0-9a-f]{64}$/)
const pages = listOf(z.tuple([number, number]), LIMITS.head)

export const indexSchema = z.strictObject({
  format: z.literal(1),
  host: z.string(),
  source: z.string(),
  id: z.string(),
  gear_key: hex32,
  chunk_unit: z.literal(CHUNK_UNITS).optional(),
  keys: listOf(z.strictObject({ attempt: z.number().int().positive(), key: hex32 }), 1000),
  origins: listOf(z.strictObject({ id: z.string(), manifest_sha256: hex32 }), LIMITS.origins),
  chunks: pages,
  trees: pages,
})
export type IndexHead = z.infer<typeof indexSchema>

export async function sealIndex(index: IndexHead, recipients: readonly string[]): Promise<Buffer> {
  const json = Buffer.from(JSON.stringify(index))
  requireReadable('index', json)
  const plain = Buffer.alloc(padme(INDEX_MAGIC.length + 4 + json.length))
  INDEX_MAGIC.copy(plain)
  plain.writeUInt32LE(json.length, INDEX_MAGIC.length)
  json.copy(plain, INDEX_MAGIC.length + 4)
  return await sealTo(recipients, plain)
}

export async function openIndex(
  object: Buffer,
  backup: BackupPlaceRef,
  attempt: number,
  identities: readonly Secret[],
): Promise<IndexHead> {
  const key = objectKey(backup, indexName(attempt))
  const fail = (what: string, cause?: unknown) => damaged(key, what, cause)
  const plain = await openSealed(object, identities, key, LIMITS.head)
  const reader = new ByteReader(plain, fail)
  if (!reader.take(INDEX_MAGIC.length).equals(INDEX_MAGIC)) throw fail('it is no index')
  const index = readJson(reader.take(reader.u32()), indexSchema)
  if (!index.success) throw fail('it is of another shape', index.error)
  const { host, source, id } = index.data
  if (placeOf({ host, source, id }) !== placeOf(backup)) throw fail('it is of another backup')
  return index.data
}
