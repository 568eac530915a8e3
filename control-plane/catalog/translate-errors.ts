import type { Db } from './catalog.ts'
import { catalogError, isRepeatable } from './sql.ts'

/** The part of drizzle's database and session (0.45) that every statement and transaction goes through. */
interface Internals {
  transaction: Db['transaction']
  readonly session: { prepareQuery(...query: unknown[]): { execute(...values: unknown[]): Promise<unknown> } }
}

const TRIES = 5

/**
 * Makes statements and transactions on the pool fail with our errors, and a transaction that ran into a deadlock run again; inside one, errors
 * stay the driver's until it ends. Without it a server that restarts would look like a defect of the program, and an agent would give up
 * instead of trying again.
 */
export function translateErrors(db: Db): Db {
  const internals = db as unknown as Internals
  const prepareQuery = internals.session.prepareQuery.bind(internals.session)
  internals.session.prepareQuery = (...query) => {
    const prepared = prepareQuery(...query)
    const execute = prepared.execute.bind(prepared)
    prepared.execute = async (...values) => {
      try {
        return await execute(...values)
      } catch (error) {
        throw catalogError(error)
      }
    }
    return prepared
  }
  const transaction = internals.transaction.bind(db)
  internals.transaction = async (fn, config) => {
    for (let attempt = 1; ; attempt++) {
      try {
        return await transaction(fn, config)
      } catch (error) {
        if (attempt < TRIES && isRepeatable(error)) continue
        throw catalogError(error)
      }
    }
  }
  return db
}
