import { HoldfastError } from '../errors.ts'
import type { BackupPlaceRef } from '../manifest/layout.ts'
import { LIMITS } from './format.ts'
import type { KnownFile } from './known-file.ts'
import type { KnownHead, KnownOrigin } from './known-layout.ts'
import type { UsablePack } from './packer.ts'
import type { Places } from './places.ts'
import type { Run } from './runs.ts'

/**
 * What a backup references: gives packs and origins their numbers at first use, and marks chunks as used. So the facts name exactly
 * the packs and backups that a reader needs.
 */
export class References {
  readonly #places: Places
  readonly #packs: readonly UsablePack[]
  readonly #known: KnownFile | null
  /** Rows of the known list's origins, in the order of first use. */
  readonly #origins: number[] = []
  readonly #originNumber = new Map<number, number>()
  /** Own packs in the order of first use. */
  readonly #used: number[] = []
  readonly #packNumber = new Map<number, number>()

  constructor(places: Places, packs: readonly UsablePack[], known: KnownFile | null) {
    this.#places = places
    this.#packs = packs
    this.#known = known
  }

  /** The run as it is written, its chunks marked as used. The block must have its place. */
  use(ref: number, first: number, count: number): Run {
    this.#places.markUsed(ref, first, count)
    return this.locate(ref, first, count)
  }

  /** Where a page of this backup lies. */
  page(ref: number): { pack: number; block: number } {
    return { pack: this.#numberPack(this.#places.packOf(ref)), block: this.#places.blockOf(ref) }
  }

  locate(ref: number, first: number, count: number): Run {
    if (ref >= this.#places.base || !this.#known) return { origin: 0, ...this.page(ref), first, count }
    const block = this.#known.block(ref)
    return { origin: this.#numberOrigin(block.origin), pack: block.pack, block: block.block, first, count }
  }

  /** Own packs that are used, in the order of their numbers. */
  get packs(): UsablePack[] {
    return this.#used.map((pack) => this.#packs[pack] as UsablePack)
  }

  get leansOn(): Array<{ host: string; source: string; id: string; manifest_sha256: string }> {
    return this.#origins.map((row) => {
      const origin = this.#known?.head.origins[row] as Omit<KnownOrigin, 'packs'>
      const { host, source, id, manifest_sha256 } = origin
      return { host, source, id, manifest_sha256: manifest_sha256 ?? (this.#known?.baseManifestSha256.toString('hex') as string) }
    })
  }

  /** Origins for the next known list: this backup, then those leaned on, with the names of their packs. */
  knownOrigins(backup: BackupPlaceRef): KnownHead['origins'] {
    // what the caller's reference holds besides would make the list unreadable
    const { host, source, id } = backup
    const own = { host, source, id, manifest_sha256: null, packs: this.packs.map((pack) => pack.stored?.name ?? null), bytes: 0 }
    const packs = this.#known && this.#origins.length > 0 ? this.#known.packs() : []
    const leant = this.leansOn.map((origin, n) => ({
      ...origin,
      packs: packs[this.#origins[n] as number] ?? [],
      bytes: 0,
    }))
    return [own, ...leant]
  }

  #numberPack(pack: number): number {
    let number = this.#packNumber.get(pack)
    if (number === undefined) {
      number = this.#used.push(pack) - 1
      this.#packNumber.set(pack, number)
    }
    return number
  }

  #numberOrigin(row: number): number {
    let number = this.#originNumber.get(row)
    if (number === undefined) {
      number = this.#origins.push(row)
      if (number > LIMITS.origins) {
        throw new HoldfastError('too_large', `the backup would lean on more than ${LIMITS.origins} others`, {
          hint: 'Run a full backup.',
        })
      }
      this.#originNumber.set(row, number)
    }
    return number
  }
}
