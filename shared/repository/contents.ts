import { randomBytes } from 'node:crypto'
import { z } from 'zod'
import { HoldfastError } from '../errors.ts'
import { hasTooManyValues, listOf, mapOf, readJson } from '../json.ts'
import { type BackupPlaceRef, contentsName, objectKey } from '../manifest/layout.ts'
import { fingerprintSchema } from '../results.ts'
import { ByteReader } from './bytes.ts'
import { spoiled } from './codec-threads.ts'
import { decompressNow } from './compressor.ts'
import { CONTENTS_MAGIC, contentsKey, damaged, LIMITS, padme, placeOf, SALT_BYTES, TAG_BYTES } from './format.ts'
import { compress } from './packing.mjs'
import { seal, unseal } from './sealer.ts'

/** The object `contents` and the rows of artifact pages (FORMAT.md section 8). */

const number = z.number().int().nonnegative().max(Number.MAX_SAFE_INTEGER)
const hex32 = z.string().regex(/^[0-9a-f]{64}$/)

export const contentsSchema = z.strictObject({
  format: z.literal(1),
  host: z.string(),
  source: z.string(),
  id: z.string(),
  engine: z.string(),
  type: z.enum(['full', 'incremental', 'differential']),
  gear_key: hex32,
  fingerprint: fingerprintSchema,
  origins: listOf(z.strictObject({ id: z.string(), manifest_sha256: hex32 }), LIMITS.origins),
  artifacts: z.strictObject({
    count: number.max(LIMITS.artifacts),
    pages: listOf(z.strictObject({ pack: number, block: number, first: z.string() }), LIMITS.artifacts),
  }),
})
export type Contents = z.infer<typeof contentsSchema>

export const artifactRowSchema = z.strictObject({
  kind: z.enum(['stream', 'tree']),
  name: z.string(),
  part: z.string().optional(),
  chunking: z.union([
    z.strictObject({ kind: z.literal('fixed'), bytes: number }),
    z.strictObject({ kind: z.literal('content-defined'), average_bytes: number }),
  ]),
  facts: mapOf(z.string()),
  bytes: number,
  entries: number.optional(),
  digest: hex32,
  body: z.union([
    z.strictObject({ inline: z.string().max(4 * LIMITS.artifactRow) }),
    z.strictObject({ pages: listOf(z.tuple([number, number]), LIMITS.artifactRow) }),
  ]),
})
export type ArtifactRow = z.infer<typeof artifactRowSchema>

/** What a reader would refuse is not written. */
export function requireReadable(what: string, json: Buffer): void {
  // the rest is for headers and padding
  if (json.length <= LIMITS.head * 0.9 && !hasTooManyValues(json)) return
  throw new HoldfastError('too_large', `the ${what} of the backup would have ${json.length} bytes, or too many parts`, {
    hint: 'Split the source: it has too many parts or too many artifacts for one backup.',
  })
}

const sealPlace = (backup: BackupPlaceRef, attempt: number) => ({ backup, attempt, object: contentsName(attempt) })

/** The object, opened again: without it no byte of the backup could be restored. Throws `internal` when it does not come back as it was. */
export function sealContents(
  contents: Contents,
  backup: BackupPlaceRef,
  attempt: number,
  dataKey: Buffer,
  compressWith: (json: Buffer) => Buffer = compress,
): Buffer {
  const json = Buffer.from(JSON.stringify(contents))
  requireReadable('contents', json)
  const frame = compressWith(json)
  const around = CONTENTS_MAGIC.length + SALT_BYTES + TAG_BYTES
  const plain = Buffer.alloc(padme(around + 8 + frame.length) - around)
  plain.writeUInt32LE(frame.length, 0)
  plain.writeUInt32LE(json.length, 4)
  frame.copy(plain, 8)
  const salt = randomBytes(SALT_BYTES)
  const sealed = seal(contentsKey(dataKey, salt), sealPlace(backup, attempt), 'contents', 0, plain)
  const object = Buffer.concat([CONTENTS_MAGIC, salt, sealed])
  requireOpens(object, json, () => openJson(object, backup, attempt, dataKey))
  return object
}

function requireOpens(object: Buffer, json: Buffer, open: () => Buffer): void {
  let opened: Buffer
  try {
    opened = open()
  } catch (cause) {
    throw spoiled(`the contents, ${object.length} bytes, did not open again`, cause)
  }
  if (!opened.equals(json)) throw spoiled(`the contents, ${object.length} bytes, opened as something else`)
}

const failing = (backup: BackupPlaceRef, attempt: number) => {
  const key = objectKey(backup, contentsName(attempt))
  return (what: string, cause?: unknown) => damaged(key, what, cause)
}

function openJson(object: Buffer, backup: BackupPlaceRef, attempt: number, dataKey: Buffer): Buffer {
  const fail = failing(backup, attempt)
  if (object.length > LIMITS.head) throw fail('it is too large')
  const reader = new ByteReader(object, fail)
  if (!reader.take(CONTENTS_MAGIC.length).equals(CONTENTS_MAGIC)) throw fail('it is no contents')
  const salt = reader.take(SALT_BYTES)
  const plain = unseal(contentsKey(dataKey, salt), sealPlace(backup, attempt), 'contents', 0, reader.take(reader.left))
  const inner = new ByteReader(plain, fail)
  const frameLength = inner.u32()
  const jsonLength = inner.u32()
  if (jsonLength > LIMITS.head) throw fail('it is too large')
  return decompressNow(inner.take(frameLength), jsonLength, fail)
}

export function openContents(object: Buffer, backup: BackupPlaceRef, attempt: number, dataKey: Buffer): Contents {
  const fail = failing(backup, attempt)
  const contents = readJson(openJson(object, backup, attempt, dataKey), contentsSchema)
  if (!contents.success) throw fail('it is of another shape', contents.error)
  const { host, source, id } = contents.data
  if (placeOf({ host, source, id }) !== placeOf(backup)) throw fail('it is of another backup')
  return contents.data
}
