import { customType, timestamp } from 'drizzle-orm/pg-core'

/** An instant, in UTC, with microseconds as PostgreSQL keeps them. */
export const instant = (name: string) => timestamp(name, { withTimezone: true, mode: 'date' })

export const bytea = customType<{ data: Buffer; driverData: Uint8Array }>({
  dataType: () => 'bytea',
  fromDriver: (value) => Buffer.from(value),
})
