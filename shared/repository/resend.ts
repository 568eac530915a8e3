import type { KnownFileEntry } from './known-blobs.ts'
import type { KnownFile } from './known-file.ts'

/** Which known chunks are stored again all the same (FORMAT.md section 11). */

export const RESEND_AFTER = 14
export const RESEND_PERMILLE = 50

/**
 * What the next incremental is told. `leansOn`: what the base leans on, and the base itself. `keptOnly`: those of them that are
 * kept for no other reason.
 */
export function planResend(leansOn: readonly string[], keptOnly: readonly string[]): { backupIds: string[]; permille: number } {
  // an id begins with its time, so the order of ids is that of age
  const kept = [...keptOnly].sort()
  if (leansOn.length <= RESEND_AFTER && kept.length === 0) return { backupIds: [], permille: 0 }
  const rest = leansOn.length > RESEND_AFTER ? [...leansOn].sort().filter((id) => !kept.includes(id)) : []
  return { backupIds: [...kept, ...rest], permille: RESEND_PERMILLE }
}

export interface ResendOptions {
  readonly known: KnownFile
  /** Oldest first. */
  readonly backupIds: readonly string[]
  readonly permille: number
  /** Object keys of packs whose chunks are not to be relied on. */
  readonly damagedPacks: readonly string[]
}

export class Resend {
  readonly #known: KnownFile
  /** Bytes still to be stored again, by row of the known list's origins. */
  readonly #left: Float64Array
  readonly #damaged: Set<string>

  constructor({ known, backupIds, permille, damagedPacks }: ResendOptions) {
    this.#known = known
    const { origins } = known.head
    this.#left = new Float64Array(origins.length)
    let budget = (origins.reduce((sum, origin) => sum + origin.bytes, 0) * permille) / 1000
    for (const id of backupIds) {
      const row = origins.findIndex((origin) => origin.id === id)
      if (row < 0) continue
      this.#left[row] = Math.min(origins[row]?.bytes ?? 0, budget)
      budget -= this.#left[row] as number
    }
    this.#damaged = new Set()
    if (damagedPacks.length === 0) return
    const wanted = new Set(damagedPacks)
    const packs = known.packs()
    origins.forEach((origin, row) => {
      packs[row]?.forEach((name, pack) => {
        if (name && wanted.has(`${origin.host}/${origin.source}/${origin.id}/${name}`)) this.#damaged.add(`${row}/${pack}`)
      })
    })
  }

  /** True when this known chunk is to be stored again; counts it. */
  take(ref: number, length: number): boolean {
    const { origin, pack } = this.#known.block(ref)
    if (this.#isDamaged(origin, pack)) return true
    if ((this.#left[origin] as number) <= 0) return false
    ;(this.#left[origin] as number) -= length
    return true
  }

  /** True when an unchanged file has to be read because something of it is to be stored again. */
  concerns(file: KnownFileEntry): boolean {
    return file.segments.some((segment) => {
      if ('hole' in segment) return false
      const { origin, pack } = this.#known.block(segment.ref)
      return (this.#left[origin] as number) > 0 || this.#isDamaged(origin, pack)
    })
  }

  #isDamaged(origin: number, pack: number): boolean {
    return this.#damaged.size > 0 && this.#damaged.has(`${origin}/${pack}`)
  }
}
