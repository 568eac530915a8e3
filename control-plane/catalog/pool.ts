import type postgres from 'postgres'
import type { Clock } from '../../shared/clock.ts'

/** What is under way on other connections when one has ended may go on for so long. */
const GRACE_MS = 30_000

/**
 * The pool of connections to a PostgreSQL server that drizzle works with. A connection that ends, for whatever reason, is never used again, and neither is the client that it belonged to:
 * the client (postgres 3.4.9) leaves unsettled what it is asked for on a connection between the error of its socket and the socket's end, as a transaction asks for its rollback.
 * Connected anew it waits there for an answer that never comes, or takes the next statement's for it.
 */
export class Pool {
  readonly #make: (onclose: () => void) => postgres.Sql
  readonly #clock: Clock
  readonly #ended = new AbortController()
  #client: postgres.Sql
  /** They finish what they have begun. */
  readonly #leaving = new Set<postgres.Sql>()

  /** `make` gives a client without a connection yet; it calls `onclose` whenever one of its connections has ended. */
  constructor(make: (onclose: () => void) => postgres.Sql, clock: Clock) {
    this.#make = make
    this.#clock = clock
    this.#client = this.#open()
  }

  get options(): postgres.Sql['options'] {
    return this.#client.options
  }

  unsafe(...query: Parameters<postgres.Sql['unsafe']>): ReturnType<postgres.Sql['unsafe']> {
    return this.#client.unsafe(...query)
  }

  begin<T>(work: (sql: postgres.TransactionSql) => Promise<T>): Promise<unknown> {
    return this.#client.begin(work)
  }

  /** What is under way has so many seconds. */
  async end(options: { timeout: number }): Promise<void> {
    this.#ended.abort()
    await Promise.all([this.#client, ...this.#leaving].map((client) => client.end(options)))
  }

  #open(): postgres.Sql {
    const client = this.#make(() => {
      if (client !== this.#client || this.#ended.signal.aborted) return
      this.#client = this.#open()
      void this.#letGo(client)
    })
    return client
  }

  async #letGo(client: postgres.Sql): Promise<void> {
    this.#leaving.add(client)
    const over = await this.#clock.sleep(GRACE_MS, this.#ended.signal).then(
      () => true,
      // the pool has ended, and ends it
      () => false,
    )
    if (!over) return
    this.#leaving.delete(client)
    // what it still waits for fails, and so does what never could be answered
    await client.end({ timeout: 0 })
  }
}
