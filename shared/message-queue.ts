/**
 * Messages from many producers to one consumer, in order and bounded. `push` waits while the queue is full, so a slow
 * consumer holds its producers back; `offer` never waits and says whether there was room.
 *
 * Contract: one consumer, by `for await`, once. After `close` nothing is accepted, what was accepted is still consumed, then
 * the consumer ends; with an error it throws it then. After `close` a waiting `push` and every later one resolves to false.
 */
export class MessageQueue<T> implements AsyncIterable<T> {
  readonly #capacity: number
  #items: T[] = []
  #closed = false
  #error: unknown
  #takers: Array<() => void> = []
  #waiting: Array<() => void> = []

  constructor(capacity: number) {
    this.#capacity = capacity
  }

  get full(): boolean {
    return this.#items.length >= this.#capacity
  }

  get closed(): boolean {
    return this.#closed
  }

  /** True once the message is in the queue. */
  async push(item: T): Promise<boolean> {
    while (this.full && !this.#closed) await new Promise<void>((resolve) => this.#waiting.push(resolve))
    return this.offer(item)
  }

  offer(item: T): boolean {
    if (this.#closed || this.full) return false
    this.#items.push(item)
    this.#takers.shift()?.()
    return true
  }

  /** Accepts no more. `last` is consumed after what is there; with `drop` what is there is thrown away first. */
  close(options: { error?: unknown; last?: T; drop?: boolean } = {}): void {
    if (this.#closed) return
    if (options.drop) this.#items = []
    if (options.last !== undefined) this.#items.push(options.last)
    this.#closed = true
    this.#error = options.error
    for (const wake of [...this.#takers.splice(0), ...this.#waiting.splice(0)]) wake()
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T, void, undefined> {
    for (;;) {
      while (this.#items.length > 0) {
        const item = this.#items.shift() as T
        this.#waiting.shift()?.()
        yield item
      }
      if (this.#closed) {
        if (this.#error !== undefined) throw this.#error
        return
      }
      await new Promise<void>((resolve) => this.#takers.push(resolve))
    }
  }
}
