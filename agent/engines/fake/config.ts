import { z } from 'zod'

/** A store of parts in a JSON file, and how the engine is to behave with it. */
export const fakeConfig = z.strictObject({
  /** Folder of the "server": one file for each place. */
  folder: z.string(),
  place: z.string(),
  /** Backups give these bytes for each part instead of the place's own; the same for the same seed. */
  generate: z.strictObject({ bytes: z.number().int().nonnegative(), seed: z.number().int() }).optional(),
  /** Bytes of one piece of a stream. */
  piece_bytes: z.number().int().positive().default(65_536),
  /** Pause before each piece. */
  slow_ms: z.number().nonnegative().default(0),
  /** A backup or restore fails once it has moved this many bytes. */
  fail_at_byte: z.number().int().nonnegative().optional(),
  /** A backup or restore deaf to everything, abort included, for this long once it has moved a piece. */
  hang_ms: z.number().nonnegative().default(0),
  /** What is added to the counts of a backup's fingerprint, by part. */
  lie: z.record(z.string(), z.number().int()).default({}),
})
export type FakeConfig = z.infer<typeof fakeConfig>
