/** Three copies (the original counted), on two kinds of storage, one of them elsewhere. Pure. */
export interface ThreeTwoOne {
  readonly copies: number
  readonly kinds: number
  readonly elsewhere: number
  readonly met: boolean
}

/**
 * `targets`: the kind of each target that holds the last good backup. A folder is a disk like the original's, and may be in the same room:
 * it adds neither a kind nor a place.
 */
export function threeTwoOne(targets: readonly string[]): ThreeTwoOne {
  const elsewhere = targets.filter((kind) => kind !== 'local')
  const copies = 1 + targets.length
  const kinds = 1 + new Set(elsewhere).size
  return { copies, kinds, elsewhere: elsewhere.length, met: copies >= 3 && kinds >= 2 && elsewhere.length >= 1 }
}
