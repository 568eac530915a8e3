import type { Clock } from '../../shared/clock.ts'
import { HoldfastError } from '../../shared/errors.ts'
import { manifestKey } from '../../shared/manifest/layout.ts'
import { parseTargetConfig, type TargetConfig } from '../../shared/storage/config.ts'
import type { LocalSigner } from '../../shared/storage/local/address.ts'
import { LocalTarget } from '../../shared/storage/local/target.ts'
import { openTarget } from '../../shared/storage/registry.ts'
import type { StorageTarget, TargetFacts } from '../../shared/storage/target.ts'
import { newestHeld } from '../catalog/backups.ts'
import type { Catalog } from '../catalog/catalog.ts'
import { getTarget, putTarget } from '../catalog/policies.ts'

export interface TargetsOptions {
  readonly catalog: Catalog
  readonly clock: Clock
  readonly signer: LocalSigner
}

/** The fleet's targets, each opened once, as the catalog has them. */
export class Targets {
  readonly #options: TargetsOptions
  readonly #open = new Map<string, { config: string; target: Promise<StorageTarget> }>()

  constructor(options: TargetsOptions) {
    this.#options = options
  }

  /** Throws `not_found`. One whose configuration has changed since is opened anew. */
  async get(name: string): Promise<StorageTarget> {
    const row = await getTarget(this.#options.catalog.db, name)
    const config = JSON.stringify(row.config)
    const known = this.#open.get(name)
    if (known?.config === config) return known.target
    const { clock, signer } = this.#options
    const target = openTarget(parseTargetConfig(name, row.config), {
      name,
      clock,
      signer,
      facts: (row.facts as TargetFacts | null) ?? undefined,
    })
    this.#open.set(name, { config, target })
    // a target that could not be opened is tried again by whoever asks next
    target.catch(() => this.#open.delete(name))
    if (known) await (await known.target).close()
    return target
  }

  /**
   * Takes a target of the configuration into the catalog. A new or changed one is probed first: it writes, writes again, writes a wrong
   * body, reads, lists and removes, and what the service really does is recorded. Throws `conflict` for a new place without the backups
   * that the target holds: every one of them would be lost from sight, and retention would take them for removed.
   */
  async configure(name: string, config: TargetConfig): Promise<void> {
    const { catalog, clock, signer } = this.#options
    const before = await getTarget(catalog.db, name).catch((error: unknown) => {
      if (error instanceof HoldfastError && error.code === 'not_found') return null
      throw error
    })
    if (before?.facts && JSON.stringify(before.config) === JSON.stringify(config)) return
    const target = await openTarget(config, { name, clock, signer })
    try {
      if (before) await this.#requireBackups(name, target)
      const facts = await target.probe()
      const now = clock.now()
      await putTarget(catalog.db, { name, kind: config.kind, config: { ...config }, facts: { ...facts }, probedAt: now }, now)
    } finally {
      await target.close()
    }
  }

  async #requireBackups(name: string, place: StorageTarget): Promise<void> {
    const held = await newestHeld(this.#options.catalog.db, name)
    if (!held || (await place.head(manifestKey(held)))) return
    throw new HoldfastError('conflict', `target ${name} holds backups that its new place does not: ${held.id} is not there`, {
      hint: 'Leave it where it is and give the new place another name; or copy all of its objects to the new place first.',
    })
  }

  /** Those among them that this control plane serves. */
  async local(names: readonly string[]): Promise<LocalTarget[]> {
    const opened = await Promise.all(names.map((name) => this.get(name)))
    return opened.filter((target) => target instanceof LocalTarget)
  }

  async close(): Promise<void> {
    for (const { target } of this.#open.values()) {
      // one that never opened has nothing to close
      await target.then(
        (opened) => opened.close(),
        () => undefined,
      )
    }
  }
}
