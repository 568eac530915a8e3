import type { Chunking } from '../artifacts.ts'

/**
 * Large sources are cut into larger content-defined chunks, so that the list of known chunks, which the agent holds and searches, does not grow
 * with them: FORMAT.md section 6. Chosen at a full and kept by everything that leans on it, since other cuts find nothing again.
 */

export const CHUNK_UNITS = [256 * 1024, 1024 * 1024] as const
/** Average bytes of a content-defined chunk, at least; null: as the engine asks. */
export type ChunkUnit = (typeof CHUNK_UNITS)[number] | null

const TB = 1e12

/** For a source of so many bytes. Up to 1 TB an engine's own unit stands (64 KiB: measured best for dumps that were edited). */
export function chunkUnitFor(sourceBytes: number): ChunkUnit {
  if (sourceBytes <= TB) return null
  return sourceBytes <= 10 * TB ? CHUNK_UNITS[0] : CHUNK_UNITS[1]
}

export function atUnit(chunking: Chunking, unit: ChunkUnit): Chunking {
  if (unit === null || chunking.kind === 'fixed') return chunking
  return { ...chunking, averageBytes: Math.max(chunking.averageBytes, unit) }
}
