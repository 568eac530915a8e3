/** What somebody uses stays in the cache until it is given back. */
export interface Held<T> {
  readonly value: Promise<T>
  /** Nobody looks at it any more on the holder's account. To be called once. */
  release(): void
  /** The same, but somebody may look at it later: its memory is left to the collector. */
  leave(): void
}

interface Entry<T> {
  value: Promise<T>
  bytes: number
  made: { readonly value: T } | null
  holders: number
  /** It was given out to somebody who does not give it back. */
  lent: boolean
}

/**
 * A least-recently-used cache bounded by bytes, those that are held besides. What is being made is shared by all who ask for it; what failed is made
 * again by the next. `free` is told of what falls out and nobody can see any more.
 */
export class ByteCache<T> {
  readonly #limit: number
  readonly #free: ((value: T) => void) | undefined
  readonly #entries = new Map<string, Entry<T>>()
  #bytes = 0

  constructor(limit: number, free?: (value: T) => void) {
    this.#limit = limit
    this.#free = free
  }

  has(key: string): boolean {
    return this.#entries.has(key)
  }

  get(key: string, make: () => Promise<{ value: T; bytes: number }>): Promise<T> {
    const entry = this.#entry(key, make)
    entry.lent = true
    return entry.value
  }

  hold(key: string, make: () => Promise<{ value: T; bytes: number }>): Held<T> {
    const entry = this.#entry(key, make)
    entry.holders++
    const release = () => {
      entry.holders--
      this.#shrink()
    }
    const leave = () => {
      entry.lent = true
      release()
    }
    return { value: entry.value, release, leave }
  }

  #entry(key: string, make: () => Promise<{ value: T; bytes: number }>): Entry<T> {
    const found = this.#entries.get(key)
    if (found) {
      this.#entries.delete(key)
      this.#entries.set(key, found)
      return found
    }
    const value = Promise.resolve() as Promise<unknown> as Promise<T>
    const entry: Entry<T> = { value, bytes: 0, made: null, holders: 0, lent: false }
    entry.value = make().then(
      (made) => {
        entry.made = made
        entry.bytes = made.bytes
        this.#bytes += made.bytes
        this.#shrink(entry)
        return made.value
      },
      (error: unknown) => {
        if (this.#entries.get(key) === entry) this.#entries.delete(key)
        throw error
      },
    )
    this.#entries.set(key, entry)
    return entry
  }

  /** Oldest first; never the one just made, nor those still being made (which count nothing yet), nor those that are held. */
  #shrink(keep?: Entry<T>): void {
    if (this.#bytes <= this.#limit) return
    for (const [key, entry] of this.#entries) {
      if (this.#bytes <= this.#limit) return
      if (entry === keep || !entry.made || entry.holders > 0) continue
      this.#entries.delete(key)
      this.#bytes -= entry.bytes
      if (!entry.lent) this.#free?.(entry.made.value)
    }
  }
}
