/**
 * A source that has lost most of its rows, or was emptied by an attacker, still backs up well. Retention would then let the
 * last backups with the data go, one by one: so a sharp fall holds removal until a person has looked.
 */

export interface Measured {
  readonly id: string
  readonly createdAt: Date
  readonly type: 'full' | 'incremental' | 'differential'
  readonly sizeBytes: number | null
  readonly totalCount: number | null
}

/** Below this share of what it was. */
const FALL = 0.5
/** Falls of fewer items, or bytes, are everyday. */
const COUNT_NOISE = 10
const SIZE_NOISE = 1024 * 1024

/**
 * What fell, in words, or null. Each good backup (given newest first) is held against the largest one before it: of counts among
 * all, of bytes read among fulls only, since the others read less by their nature. Those at or before `acceptedAt` are not judged,
 * and no longer a measure for later ones.
 */
export function sharpFall(newestFirst: readonly Measured[], acceptedAt: Date | null): string | null {
  const judged = newestFirst.filter((backup) => acceptedAt === null || backup.createdAt > acceptedAt)
  // the newest accepted one is the new normal
  const normal = newestFirst.find((backup) => acceptedAt !== null && backup.createdAt <= acceptedAt)
  const series = normal ? [...judged, normal] : judged
  return (
    fallIn(series, (backup) => backup.totalCount, COUNT_NOISE, 'items') ??
    fallIn(
      series.filter((backup) => backup.type === 'full'),
      (backup) => backup.sizeBytes,
      SIZE_NOISE,
      'bytes',
    )
  )
}

function fallIn(
  newestFirst: readonly Measured[],
  of: (backup: Measured) => number | null,
  noise: number,
  unit: string,
): string | null {
  let most = 0
  for (const backup of newestFirst.toReversed()) {
    const value = of(backup)
    if (value === null) continue
    if (value < most * FALL && most - value >= noise)
      return `backup ${backup.id} holds ${value} ${unit} where an earlier one held ${most}`
    most = Math.max(most, value)
  }
  return null
}
