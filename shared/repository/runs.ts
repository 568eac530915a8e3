import type { ByteReader, ByteWriter } from './bytes.ts'
import { LIMITS } from './format.ts'

/** Records of bodies and of index pages (FORMAT.md section 7). */

export interface Run {
  /** 0: this backup; n: row n - 1 of the origins. */
  readonly origin: number
  /** Number of the pack in its backup. */
  readonly pack: number
  readonly block: number
  readonly first: number
  readonly count: number
}

/** The run before, which the next one is written against. */
export type RunState = Run

export const START: RunState = { origin: 0, pack: 0, block: 0, first: 0, count: 0 }

export const RECORD = { hole: 64, entry: 65 } as const

const BIT = { run: 1, origin: 2, pack: 4, block: 8, first: 16, count: 32 } as const

/** Returns the state after it. */
export function writeRun(out: ByteWriter, run: Run, before: RunState): RunState {
  let flags: number = BIT.run
  if (run.origin !== before.origin) flags |= BIT.origin
  if (run.pack !== before.pack) flags |= BIT.pack
  if (run.block !== before.block) flags |= BIT.block
  if (run.first !== expectedFirst(flags, before)) flags |= BIT.first
  if (run.count !== 1) flags |= BIT.count
  out.u8(flags)
  if (flags & BIT.origin) out.varint(run.origin)
  if (flags & BIT.pack) out.varint(run.pack)
  if (flags & BIT.block) out.varint(run.block)
  if (flags & BIT.first) out.varint(run.first)
  if (flags & BIT.count) out.varint(run.count)
  return run
}

/** `flags` is the record's first byte, already read and known to be a run's. */
export function readRun(reader: ByteReader, flags: number, before: RunState): Run {
  const run = {
    origin: flags & BIT.origin ? reader.varint(LIMITS.origins) : before.origin,
    pack: flags & BIT.pack ? reader.varint(0xffff_ffff) : before.pack,
    block: flags & BIT.block ? reader.varint(LIMITS.blocksPerPack) : before.block,
    first: flags & BIT.first ? reader.varint(LIMITS.chunksPerBlock) : expectedFirst(flags, before),
    count: flags & BIT.count ? reader.varint(LIMITS.chunksPerBlock) : 1,
  }
  if (run.count === 0 || run.first + run.count > LIMITS.chunksPerBlock) throw reader.fail('a run is out of bounds')
  return run
}

export const isRun = (tag: number): boolean => (tag & 1) === 1 && tag < 64

const expectedFirst = (flags: number, before: RunState): number =>
  flags & (BIT.origin | BIT.pack | BIT.block) ? 0 : before.first + before.count
