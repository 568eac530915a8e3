import type { Places } from './places.ts'
import type { References } from './references.ts'

/** Packs of a backup, and origins times them times blocks: what a number holds exactly. */
const PACKS = 2 ** 27
const BLOCKS = 2 ** 16
const NONE = 0xffff_ffff

/**
 * Blocks of which the contents reference a chunk, in the order of (origin, pack, block). Sorted as numbers that are made of these, and without an object for each or each comparison: a terabyte has a
 * million, and all else of the backup is still in memory.
 */
export function usedBlocks(places: Places, references: Pick<References, 'locate'>): Uint32Array {
  const rankOf = (ref: number): number => {
    const { origin, pack, block } = references.locate(ref, 0, 0)
    if (pack >= PACKS) throw new RangeError(`pack ${pack} of a backup`)
    return (origin * PACKS + pack) * BLOCKS + block
  }
  let count = 0
  for (let ref = 0; ref < places.count; ref++) if (places.hasUsed(ref)) count++
  const ranks = new Float64Array(count)
  for (let ref = 0, n = 0; n < count; ref++) if (places.hasUsed(ref)) ranks[n++] = rankOf(ref)
  ranks.sort()
  const order = new Uint32Array(count).fill(NONE)
  for (let ref = 0, n = 0; n < count; ref++) {
    if (!places.hasUsed(ref)) continue
    let at = firstNotBelow(ranks, rankOf(ref))
    // a list that names a block twice has two places for it
    while (order[at] !== NONE) at++
    order[at] = ref
    n++
  }
  return order
}

function firstNotBelow(sorted: Float64Array, wanted: number): number {
  let low = 0
  let high = sorted.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((sorted[middle] as number) < wanted) low = middle + 1
    else high = middle
  }
  return low
}
