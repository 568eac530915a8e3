import { HoldfastError } from '../../../shared/errors.ts'
import type { Run } from '../engine.ts'
import type { Address } from './address.ts'
import { dropDatabase, nameBeside, REPLACED } from './databases.ts'
import { ident, literal } from './quote.ts'
import { openSession, type Session } from './session.ts'

interface Swap {
  /** What was filled. */
  readonly beside: string
  readonly target: string
  /** True: what has the target's name is replaced. */
  readonly replaces: boolean
  /** The comment of the database once it has its name; null: none. */
  readonly comment: string | null
}

/**
 * Gives the filled database its name, in one transaction with taking the name from what has it. Sessions of its own, which
 * an abort does not end: after the commit the restore is done, before it nothing is.
 */
export async function swapDatabases(address: Address, maintenance: string, swap: Swap, run: Run): Promise<void> {
  const session = await openSession({ ...address, database: maintenance })
  const old = nameBeside(swap.target, 'before')
  try {
    run.signal.throwIfAborted()
    // the last moment at which this attempt may be told that another one has taken over
    run.fenced()
    const statements = swap.replaces
      ? [
          `alter database ${ident(swap.target)} rename to ${ident(old)}`,
          `comment on database ${ident(old)} is ${literal(REPLACED)}`,
        ]
      : []
    statements.push(
      `alter database ${ident(swap.beside)} rename to ${ident(swap.target)}`,
      `comment on database ${ident(swap.target)} is ${swap.comment === null ? 'null' : literal(swap.comment)}`,
    )
    const renamed = inTransaction(session, statements)
    if (swap.replaces) await sendAway(address, maintenance, swap.target, renamed, run)
    await renamed
    if (swap.replaces) await dropOld(session, old, run)
  } finally {
    await session.close()
  }
}

async function inTransaction(session: Session, statements: readonly string[]): Promise<void> {
  await session.run('begin')
  try {
    for (const statement of statements) await session.run(statement)
    await session.run('commit')
  } catch (error) {
    await session.run('rollback')
    throw error
  }
}

/** The rename holds off new sessions and waits a while for the old ones: those are ended meanwhile. */
async function sendAway(address: Address, maintenance: string, database: string, until: Promise<void>, run: Run): Promise<void> {
  const watched = { settled: false }
  const settled = until.then(
    () => undefined,
    () => undefined,
  )
  void settled.then(() => {
    watched.settled = true
  })
  const session = await openSession({ ...address, database: maintenance })
  try {
    while (!watched.settled) {
      await session.rows(
        `select pg_terminate_backend(pid) from pg_stat_activity
         where datname = $1 and pid <> pg_backend_pid() and backend_type = 'client backend'`,
        [database],
      )
      await Promise.race([settled, run.clock.sleep(50)])
    }
  } catch (error) {
    // without the right to end others' sessions, it is up to the rename whether any are left
    if (!(error instanceof HoldfastError && error.code === 'source_denied')) throw error
  } finally {
    await session.close()
  }
}

async function dropOld(session: Session, old: string, run: Run): Promise<void> {
  try {
    await dropDatabase(session, old)
  } catch (error) {
    run.finding({
      code: 'database_left_behind',
      severity: 'warning',
      message: `the replaced database could not be dropped and is now called ${JSON.stringify(old)}: ${error instanceof Error ? error.message : String(error)}`,
      hint: 'Drop it by hand when nothing uses it any more; the next restore on this server tries again.',
    })
  }
}
