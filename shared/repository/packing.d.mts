import type { Sum } from './sums.mjs'

/**
 * What a block may cost. `none`: it is stored as it is. `fitting`: with the settings that fit what lies before it (fitting.mjs), or WIDE where nobody remembers that.
 * `deep`: with DEEP, whatever lies before it.
 */
export type Effort = 'none' | 'fitting' | 'deep'

/** Plaintext of a block, at the beginning of a buffer of its own, where the packed bytes take its place. */
export interface PlainBlock {
  readonly buffer: Buffer
  readonly length: number
  /** Of the plaintext, taken when its chunks were named. */
  readonly sum: Sum
  readonly effort: Effort
}

/** What is sealed: the first `length` bytes of the same buffer. */
export interface PackedBlock {
  readonly buffer: Buffer
  readonly codec: 'stored' | 'zstd'
  readonly length: number
  /** Of these bytes. Whoever holds bytes of this sum holds those that were decoded and compared. */
  readonly sum: Sum
}

export interface Zstd {
  /** With these settings; without, it chooses. */
  compress(plain: Buffer, settings?: Settings): Buffer
  decode(packed: Buffer, length: number): Buffer
}

/** Parameters of zstd, as Node names them. */
export type Settings = Readonly<Record<number, number>>

export declare const WIDE: Settings
export declare const NARROW: Settings
export declare const FAST: Settings
export declare const DEEP: Settings

/** WIDE unless told otherwise. */
export declare function compress(plain: Buffer, settings?: Settings): Buffer
export declare const decode: Zstd['decode']

/** Options of Node's decoder: never more output than this many bytes and one. */
export declare function bounded(length: number): {
  readonly maxOutputLength: number
  readonly chunkSize: number
  readonly params: Readonly<Record<number, number>>
}

/**
 * Compresses a block and opens it again: it has to be the plaintext, byte for byte, and to have the sum from the time at which its
 * chunks were named, else it throws. restic 0.16 learned it the hard way: the zstd library corrupted data twice. Sums, not hashes: they guard
 * against chance alone.
 */
export declare function packChecked(block: PlainBlock, zstd?: Zstd): PackedBlock

/** A block as it was sealed, alone in its memory, and where each of its chunks ends; the last end is its length. */
export interface SealedContent {
  readonly packed: Buffer
  readonly codec: 'stored' | 'zstd'
  readonly ends: Uint32Array
}

/** Its plaintext, and the SHA-256 of each chunk: what the directory's names have to be. */
export interface OpenedContent {
  readonly plain: Buffer
  readonly names: Buffer
}

/** Decodes a block and hashes its chunks; throws unless it has exactly the length that is said. Takes `packed` over. */
export declare function openPacked(content: SealedContent): OpenedContent

/**
 * Gives the memory of a buffer back at once, not when it is collected: what is made for each block of a large backup would else pile up, and come
 * from the kernel as fresh pages. Nobody may hold a view of it. Small buffers are left alone.
 */
export declare function free(bytes: Buffer): void
