import type postgres from 'postgres'
import type { PostgresServer } from '../harness/postgres.ts'

const EVERY_MS = 30
/** The client never settles what it is asked while its server is killed. */
const UNANSWERED_MS = 2000

interface SessionRow {
  readonly database: string
  /** One for each run of an engine, its tools included. */
  readonly application: string
}

/**
 * While restores are at work, looks thirty times a second at the sessions of the server that they write, past the product's own locks: no two runs may write one database,
 * and no two that live may fill databases for one target.
 */
export class DatabaseWatch {
  readonly #server: PostgresServer
  readonly #violations = new Set<string>()
  #watching = false
  #looking: Promise<void> = Promise.resolve()
  /** How often it saw a restore fill a database: a watch that never did proves nothing. */
  seen = 0

  constructor(server: PostgresServer) {
    this.#server = server
  }

  /** From now until `rest`. */
  start(): void {
    if (this.#watching) return
    this.#watching = true
    this.#looking = this.#look()
  }

  get violations(): readonly string[] {
    return [...this.#violations]
  }

  /** No restore is at work. */
  async rest(): Promise<void> {
    this.#watching = false
    await this.#looking
  }

  /** A restore fills a database that is to have that name. */
  async fills(target: string): Promise<boolean> {
    const rows = await this.#server.sql<SessionRow>('postgres', SESSIONS)
    return rows.some(({ database }) => targetOf(database) === target)
  }

  async #look(): Promise<void> {
    let sql = this.#server.connect(MAINTENANCE)
    while (this.#watching) {
      const rows = await answered(sql)
      if (rows) {
        this.#judge(rows)
      } else {
        // a seed has killed the server
        end(sql)
        sql = this.#server.connect(MAINTENANCE)
      }
      await new Promise((resolve) => setTimeout(resolve, EVERY_MS))
    }
    end(sql)
  }

  #judge(rows: readonly SessionRow[]): void {
    const living = new Set(rows.filter(({ database }) => database === MAINTENANCE).map(({ application }) => application))
    const writers = new Map<string, string>()
    for (const { database, application } of rows) {
      const target = targetOf(database)
      if (target === null) continue
      this.seen += 1
      this.#requireAlone(writers, `the database ${database}`, application)
      // what a killed run has left on the server may end a moment after it
      if (living.has(application)) this.#requireAlone(writers, `databases for ${target}`, application)
    }
  }

  #requireAlone(writers: Map<string, string>, what: string, application: string): void {
    const writer = writers.get(what) ?? application
    if (writer !== application) this.#violations.add(`the runs ${writer} and ${application} write ${what} at once`)
    writers.set(what, application)
  }
}

const MAINTENANCE = 'postgres'
const SESSIONS = `select datname as database, application_name as application from pg_stat_activity
  where application_name like 'holdfast _%' and backend_type = 'client backend' and datname is not null`

/** A restore fills `<target>_holdfast_<random>`, which gets its name when all is in it. */
const targetOf = (database: string): string | null => /^(.*)_holdfast_[0-9a-z]{10}$/.exec(database)?.[1] ?? null

async function answered(sql: postgres.Sql): Promise<readonly SessionRow[] | null> {
  const late = Promise.withResolvers<null>()
  const timer = setTimeout(() => late.resolve(null), UNANSWERED_MS)
  try {
    return await Promise.race([sql.unsafe<SessionRow[]>(SESSIONS).catch(() => null), late.promise])
  } finally {
    clearTimeout(timer)
  }
}

function end(sql: postgres.Sql): void {
  sql.end({ timeout: 0 }).catch(() => undefined)
}
