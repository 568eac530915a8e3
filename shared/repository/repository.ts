import type { BackupSink, BackupSource, Chunking } from '../artifacts.ts'
import type { BackupPlaceRef } from '../manifest/layout.ts'
import type { Facts, Manifest } from '../manifest/manifest.ts'
import type { Fingerprint } from '../results.ts'
import type { Secret } from '../secret.ts'
import type { ChunkUnit } from './chunk-unit.ts'
import type { BlockCodec } from './codec-threads.ts'
import type { OwnChunks } from './own-chunks.ts'

/**
 * The repository as its users see it. FORMAT.md says what the bytes are. Nothing here knows of jobs, the network or a
 * particular store: objects come and go through `ObjectSink` and `ObjectSource`.
 */

/** Where a writer's objects go. `name` is relative to the backup's folder. Resolves when the store has confirmed it. */
export interface ObjectSink {
  /** `bytes` are valid until it settles: who keeps them copies them. */
  put(name: string, bytes: Buffer, sha256: Buffer, signal: AbortSignal): Promise<void>
}

/** Where a reader's objects come from. `key` is relative to the target. The bytes are the caller's own: nobody else holds their memory. */
export interface ObjectSource {
  get(key: string, range: { offset: number; length: number } | null, signal: AbortSignal): Promise<Buffer>
}

export interface WriterOptions {
  readonly fleetId: string
  readonly backup: BackupPlaceRef
  readonly engine: string
  readonly type: 'full' | 'incremental' | 'differential'
  readonly attempt: number
  /** 32 bytes, of this attempt alone; kept in the job's journal. */
  readonly dataKey: Secret<Buffer>
  /** Of earlier attempts of the same backup whose confirmed packs are used again. */
  readonly earlier: readonly EarlierAttempt[]
  /** age recipients. */
  readonly recipients: readonly string[]
  /** The agent's own: the `index` is sealed to it as well. */
  readonly agentRecipient: string
  /** Of the base; null for a full. */
  readonly known: KnownChunks | null
  /** The source's gear key (32 bytes); a new one only at a full. */
  readonly gearKey: Secret<Buffer>
  /**
   * Bytes of the whole source as far as is known, asked when the first artifact begins. A full chooses the unit of its chunks by it; what leans on
   * something keeps the unit of its base.
   */
  readonly sourceBytes?: () => number
  /** In place of what the engine asks for: a policy's. */
  readonly chunking?: Chunking
  /** Object keys of packs whose chunks count as unknown. */
  readonly damagedPacks: readonly string[]
  readonly resend: { readonly backupIds: readonly string[]; readonly permille: number }
  readonly objects: ObjectSink
  /**
   * An empty folder of the job's own, on a disk with room for 100 bytes for each chunk of the source and 50 MB. `finish` leaves a file `known` there for
   * `keepKnown`.
   */
  readonly scratch: string
  readonly signal: AbortSignal
  /** Chunks of this backup that memory holds by name; a million unless given. */
  readonly ownChunks?: OwnChunks
  /** What packs blocks; threads unless given. Closed with the writer. */
  readonly codec?: BlockCodec
  /** What a backup's lengths are drawn with: the system's random numbers unless given. */
  readonly draw?: Draw
  onProgress(totals: WriterTotals): void
  /** Called after a pack was confirmed: what a resumed attempt needs to use it again. One call at a time. */
  onPackStored?(pack: StoredPack): Promise<void>
}

/** A whole number from 0 on, below the one given. */
export type Draw = (below: number) => number

export interface EarlierAttempt {
  readonly attempt: number
  readonly dataKey: Secret<Buffer>
  /** Read once, when the writer is opened. */
  readonly packs: Iterable<StoredPack> | AsyncIterable<StoredPack>
}

/** A confirmed pack with the chunks in it. `chunks` is opaque to everyone but the writer. */
export interface StoredPack {
  readonly name: string
  readonly size: number
  readonly sha256: Buffer
  readonly chunks: Buffer
}

export interface WriterTotals {
  readonly readBytes: number
  /** Of objects confirmed by the store. */
  readonly storedBytes: number
  readonly skippedBytes: number
  readonly resentBytes: number
  readonly chunks: number
  readonly chunksSkipped: number
  readonly packs: number
}

export interface BackupWriter extends BackupSink {
  readonly totals: WriterTotals
  /** Writes what is left, contents and index; the facts are not signed yet. No artifact may be open. */
  finish(fingerprint: Fingerprint): Promise<Facts>
  /** Stops work under way; packs already stored stay for the next attempt. May be called twice. */
  close(): Promise<void>
}

/** Chunks (and files of trees) that the base's contents reference: a file of the agent, immutable. */
export interface KnownChunks {
  readonly baseId: string
  readonly baseManifestSha256: Buffer
  /** The gear key of the base. */
  readonly gearKey: Secret<Buffer>
  readonly chunkUnit: ChunkUnit
  close(): Promise<void>
}

export interface ReaderOptions {
  /** Checked by the caller (shared/manifest/verify.ts). */
  readonly manifest: Manifest
  /** Manifests of the backups it leans on, checked, by id. */
  readonly leansOn: ReadonlyMap<string, Manifest>
  /** Data key of an attempt of a backup, from its keys/N. */
  readonly keys: (backupId: string, attempt: number) => Secret<Buffer> | undefined
  readonly objects: ObjectSource
  readonly signal: AbortSignal
  /** A folder of the reader's own, with room for 128 MiB: what leans on many backups is else fetched again and again (spill.ts). */
  readonly scratch?: string
  onProgress?(totals: Readonly<ReaderTotals>): void
}

export interface ReaderTotals {
  /** Fetched from the store. */
  readBytes: number
  /** Given out without being fetched, since they lay where they are restored. */
  foundBytes: number
  chunks: number
}

export interface BackupReader extends BackupSource {
  readonly manifest: Manifest
  readonly totals: Readonly<ReaderTotals>
  /** Every byte of every object the backup needs, its own and leaned-on ones, read back, opened and compared. */
  verify(options: { onError: (error: ObjectError) => void }): Promise<{ bytes: number; objects: number }>
  /** Opens `count` random blocks of each kind, own and leaned-on. */
  sample(count: number, options: { onError: (error: ObjectError) => void }): Promise<{ blocks: number }>
  close(): Promise<void>
}

export interface ObjectError {
  readonly code: 'object_missing' | 'object_damaged' | 'key_missing'
  readonly key: string
  readonly message: string
}
