import { z } from 'zod'

/** What the engine and its child say to each other: JSON, one line each. */

export const INTEGRITY = ['off', 'quick', 'full'] as const

export type Request = Task & { readonly path: string; readonly busyMs: number }
type Task =
  /** Counts, and ends. */
  | { readonly task: 'count'; readonly integrity: (typeof INTEGRITY)[number] }
  /** Pins a snapshot and obeys: the line "count" counts in it, "release" lets go of it and ends. */
  | { readonly task: 'pin'; readonly integrity: (typeof INTEGRITY)[number] }
  /** Locks everyone else out, with nothing left in the write-ahead log, until it is killed. */
  | { readonly task: 'lock' }

const uint = z.number().int().nonnegative()

/** The snapshot in the write-ahead log: frames up to `frames`, of the log with this salt. */
export const walSchema = z.object({ frames: uint, salt: z.string().regex(/^[0-9a-f]{16}$/) })
export const pinnedSchema = z.object({ pageSize: uint.min(512).max(65_536), pages: uint, wal: walSchema.nullable() })
export type Pinned = z.infer<typeof pinnedSchema>

export const countedSchema = z.object({
  counts: z.record(z.string(), uint),
  facts: z.record(z.string(), z.string()),
  /** What the integrity check found, or what could not be counted. */
  problems: z.array(z.string()),
})
export type Counted = z.infer<typeof countedSchema>

export const replySchema = z.union([
  z.object({ pinned: pinnedSchema }),
  z.object({ counted: countedSchema }),
  z.object({ locked: z.literal(true) }),
  z.object({ released: z.literal(true) }),
  /** `code`: SQLite's extended result code. */
  z.object({ failed: z.object({ code: z.number().int(), message: z.string() }) }),
])
export type Reply = z.infer<typeof replySchema>
