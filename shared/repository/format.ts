import { hash, hkdfSync } from 'node:crypto'
import { HoldfastError } from '../errors.ts'
import type { BackupPlaceRef } from '../manifest/layout.ts'

/** Constants and derivations of FORMAT.md, version 1. A change here is a change of the format. */

export const FORMAT = 1

export const KIB = 1024
export const MIB = 1024 * 1024

/** Section 14: a reader refuses more before it allocates. */
export const LIMITS = {
  pack: 17 * MIB,
  /** Of `contents`, `index`, and the JSON in them. */
  head: 32 * MIB,
  keyFile: MIB,
  block: 4 * MIB,
  page: MIB,
  blocksPerPack: 65_535,
  chunksPerBlock: 4096,
  origins: 1000,
  artifacts: 1_000_000,
  artifactRow: MIB,
  entry: 768 * KIB,
} as const

/** Sizes at which a writer closes what it fills. */
export const TARGETS = { block: MIB, pack: 16 * MIB, page: 512 * KIB, inlineBody: 2 * KIB } as const

export const KEY_BYTES = 32
export const SALT_BYTES = 32
export const TAG_BYTES = 16
export const NAME_BYTES = 32

export const PACK_MAGIC = Buffer.from('HFPACK1\n')
export const CONTENTS_MAGIC = Buffer.from('HFCONT1\n')
export const INDEX_MAGIC = Buffer.from('HFINDX1\n')

export const BLOCK_KINDS = ['data', 'page', 'index'] as const
export type BlockKind = (typeof BLOCK_KINDS)[number]
export type SealKind = BlockKind | 'padding' | 'directory' | 'footer' | 'contents'

/** Numbers of a pack's parts that are no blocks. */
export const NUMBER = { padding: 0xffff_fffd, directory: 0xffff_fffe, footer: 0xffff_ffff } as const

export const PAGE = { artifacts: 1, body: 2, chunks: 3, trees: 4 } as const

export const placeOf = (ref: BackupPlaceRef): string => `${ref.host}/${ref.source}/${ref.id}`

export const sha256 = (bytes: Uint8Array): Buffer => hash('sha256', bytes, 'buffer')

const derive = (key: Buffer, salt: Buffer, info: string, bytes = KEY_BYTES): Buffer =>
  Buffer.from(hkdfSync('sha256', key, salt, info, bytes))

const NO_SALT = Buffer.alloc(0)

export const checkValue = (dataKey: Buffer, ref: BackupPlaceRef, attempt: number): Buffer =>
  derive(dataKey, NO_SALT, `holdfast/1 check\0${placeOf(ref)}\0${attempt}`)
export const indexKeyOf = (dataKey: Buffer, ref: BackupPlaceRef, attempt: number): Buffer =>
  derive(dataKey, NO_SALT, `holdfast/1 index\0${placeOf(ref)}\0${attempt}`)
export const packDataKey = (dataKey: Buffer, salt: Buffer): Buffer => derive(dataKey, salt, 'holdfast/1 pack data')
export const packIndexKey = (indexKey: Buffer, salt: Buffer): Buffer => derive(indexKey, salt, 'holdfast/1 pack index')
export const contentsKey = (dataKey: Buffer, salt: Buffer): Buffer => derive(dataKey, salt, 'holdfast/1 contents')
export const gearTableBytes = (gearKey: Buffer): Buffer => derive(gearKey, NO_SALT, 'holdfast/1 gear', 1024)
export const identityKeyOf = (gearKey: Buffer): Buffer => derive(gearKey, NO_SALT, 'holdfast/1 identity')

export function varint(value: number): Buffer {
  const out: number[] = []
  let rest = value
  while (rest >= 128) {
    out.push((rest % 128) | 128)
    rest = Math.floor(rest / 128)
  }
  out.push(rest)
  return Buffer.from(out)
}

/**
 * Padmé (Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and Communication with PURBs", 2019): lengths
 * keep only their leading bits, for 3.2 % at most from 64 KiB on.
 */
export function padme(length: number): number {
  const step = padmeStep(length)
  return Math.ceil(length / step) * step
}

/** Lengths about this one are rounded to multiples of it. */
export function padmeStep(length: number): number {
  if (length < 2) return 1
  const e = Math.floor(Math.log2(length))
  const s = Math.floor(Math.log2(e)) + 1
  return 2 ** Math.max(0, e - s)
}

/**
 * Rounded up to that length or to the one after it, by chance (`draw`: a whole number below another). Rounded always up, a length could be found exactly by
 * who adds to it, byte by byte, until it is another one.
 */
export const blurred = (length: number, draw: (below: number) => number): number => padme(length + draw(padmeStep(length)))

/** Whether `rounded` can be what `blurred` made of it. */
export const isBlurOf = (length: number, rounded: number): boolean =>
  rounded >= padme(length) && rounded <= padme(length + padmeStep(length) - 1)

export const PACK_NAME = /^packs\/([1-9][0-9]{0,5})-[0-9a-hjkmnp-tv-z]{16}$/

/** The attempt whose key opens a pack. */
export function attemptOfPack(name: string): number {
  const match = PACK_NAME.exec(name)
  if (!match) throw new HoldfastError('object_damaged', `${JSON.stringify(name)} is not the name of a pack`)
  return Number(match[1])
}

export function damaged(key: string, what: string, cause?: unknown): HoldfastError {
  return new HoldfastError('object_damaged', `${key} is damaged: ${what}`, {
    hint: 'Restore from another copy or backup; the next incremental stores the lost chunks again once a verification has found them.',
    context: { key },
    cause,
  })
}
