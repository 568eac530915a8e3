import type { Db } from './catalog.ts'
import { catalogError } from './sql.ts'

/** The part of drizzle's session (0.45) that every statement goes through. */
interface Session {
  prepareQuery(...query: unknown[]): { execute(...values: unknown[]): Promise<unknown> }
}

/**
 * Makes every statement outside a transaction fail with our errors; those inside one are translated where the transaction ends.
 * Without it a server that restarts would look like a defect of the program, and an agent would give up instead of trying again.
 */
export function translateErrors(db: Db): Db {
  const { session } = db as unknown as { session: Session }
  const prepareQuery = session.prepareQuery.bind(session)
  session.prepareQuery = (...query) => {
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
  return db
}
