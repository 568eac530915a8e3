import { z } from 'zod'
import type { Chunking } from '../../shared/artifacts.ts'

/**
 * A policy's `chunks`: how the backups of its sources are cut, where its operator knows better than the engine. Pages suit a folder of
 * database files, whose pages are written anew in place (docs/performance.md has what each stores again).
 */

const SIZES = {
  '4KiB': 4096,
  '8KiB': 8192,
  '16KiB': 16_384,
  '32KiB': 32_768,
  '64KiB': 65_536,
  '128KiB': 131_072,
  '256KiB': 262_144,
  '512KiB': 524_288,
  '1MiB': 1_048_576,
} as const

const size = z.enum(Object.keys(SIZES) as Array<keyof typeof SIZES>)

export const chunksSchema = z
  .strictObject({
    /** Cut every so many bytes from the beginning of a file. */
    pages: size.optional(),
    /** Content-defined, of this many bytes on average. */
    average: size.optional(),
  })
  .refine(({ pages, average }) => (pages === undefined) !== (average === undefined), {
    error: 'give either pages or average, a size from 4KiB to 1MiB',
  })
export type Chunks = z.output<typeof chunksSchema>

/** Of the policies that select a source the one that cuts finest, pages before content-defined chunks; null: as its engine has it. */
export function finestChunking(choices: readonly Chunks[]): Chunking | null {
  const pages = smallest(choices.map((choice) => choice.pages))
  if (pages !== null) return { kind: 'fixed', bytes: pages }
  const average = smallest(choices.map((choice) => choice.average))
  return average === null ? null : { kind: 'content-defined', averageBytes: average }
}

function smallest(names: ReadonlyArray<keyof typeof SIZES | undefined>): number | null {
  const bytes = names.flatMap((name) => (name === undefined ? [] : SIZES[name]))
  return bytes.length === 0 ? null : Math.min(...bytes)
}
