/**
 * A least-recently-used cache bounded by bytes. What is being made is shared by all who ask for it; what failed is made again
 * by the next.
 */
export class ByteCache<T> {
  readonly #limit: number
  readonly #entries = new Map<string, { value: Promise<T>; bytes: number }>()
  #bytes = 0

  constructor(limit: number) {
    this.#limit = limit
  }

  has(key: string): boolean {
    return this.#entries.has(key)
  }

  get(key: string, make: () => Promise<{ value: T; bytes: number }>): Promise<T> {
    const found = this.#entries.get(key)
    if (found) {
      this.#entries.delete(key)
      this.#entries.set(key, found)
      return found.value
    }
    const entry = { value: Promise.resolve() as Promise<unknown> as Promise<T>, bytes: 0 }
    entry.value = make().then(
      ({ value, bytes }) => {
        entry.bytes = bytes
        this.#bytes += bytes
        this.#shrink(entry)
        return value
      },
      (error: unknown) => {
        if (this.#entries.get(key) === entry) this.#entries.delete(key)
        throw error
      },
    )
    this.#entries.set(key, entry)
    return entry.value
  }

  /** Oldest first; never the one just made, nor those still being made (which count nothing yet). */
  #shrink(keep: unknown): void {
    for (const [key, entry] of this.#entries) {
      if (this.#bytes <= this.#limit) return
      if (entry === keep || entry.bytes === 0) continue
      this.#entries.delete(key)
      this.#bytes -= entry.bytes
    }
  }
}
