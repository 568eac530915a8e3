import { afterEach, describe } from 'vitest'
import type { Engine, Place } from './engine.ts'
import { abortRules } from './testing/abort-rules.ts'
import { checkRules } from './testing/check-rules.ts'
import { nameRules } from './testing/name-rules.ts'
import { restoreRules } from './testing/restore-rules.ts'
import { sourceRules } from './testing/source-rules.ts'

/**
 * The suite that every engine passes, called by its own x.contract.test.ts with a subject: the engine and a way to make
 * real stores for it. The content that `make` puts into a store holds odd names (testing/names.ts) wherever the store allows.
 */
export interface EngineSubject<Config> {
  readonly engine: Engine<Config>
  make(): Promise<Store<Config>>
}

/** A throw-away store with a source in it and room for other places beside. */
export interface Store<Config> {
  readonly config: Config
  /** The same as an administrator writes it. */
  readonly rawConfig: Readonly<Record<string, unknown>>
  /** A configuration of a source that cannot be reached, with the same secrets. */
  readonly unreachable: Config
  /** Values of the configuration that may show nowhere. */
  readonly secrets: readonly string[]
  /** Parts of the source, not all of them; null when the engine knows none. */
  readonly parts: readonly string[] | null
  /** True where a place's name is a file or folder name, so that "..", "a/b" and the empty name have to be refused. */
  readonly namesArePaths: boolean
  /** Changes, adds and removes content of the source. */
  mutate(): Promise<void>
  /** A text that is the same for two places exactly when they hold the same, or the same in these parts. */
  state(place: Place<Config>, parts?: readonly string[]): Promise<string>
  /** True when the place holds something outside of these parts. */
  holdsMoreThan(place: Place<Config>, parts: readonly string[]): Promise<boolean>
  /** Takes one row, document or file away without a trace. */
  lose(place: Place<Config>): Promise<void>
  /** Everything that lies beside the source, and around: what a test must not find more of afterwards. */
  places(): Promise<string[]>
  dispose(): Promise<void>
}

export interface Bench<Config> {
  readonly engine: Engine<Config>
  /** A store of its own for each test, removed after it. */
  make(): Promise<Store<Config>>
}

export function engineContract<Config>(subject: EngineSubject<Config>): void {
  const stores: Store<Config>[] = []
  const bench: Bench<Config> = {
    engine: subject.engine,
    make: async () => {
      const store = await subject.make()
      stores.push(store)
      return store
    },
  }
  describe(`engine ${subject.engine.kind}`, () => {
    afterEach(async () => {
      for (const store of stores.splice(0)) await store.dispose()
    })
    sourceRules(bench)
    restoreRules(bench)
    abortRules(bench)
    checkRules(bench)
    nameRules(bench)
  })
}
