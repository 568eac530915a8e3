import { loadedWhenUsed } from '../loaded.ts'
import { postgresConfig } from './config.ts'

/**
 * One database of a PostgreSQL server, 14 or later, logically: definitions by pg_dump and pg_restore, rows by COPY, at one
 * snapshot. A standby may be backed up; of a cluster with failover, the node that the address leads to.
 */
export const postgresEngine = loadedWhenUsed(
  {
    kind: 'postgres',
    config: postgresConfig,
    abilities: {
      kinds: ['full', 'incremental', 'differential'],
      parts: 'schema or schema.table',
      mapping: false,
      tenants: false,
      pointInTime: false,
      overwrite: 'swap',
    },
  },
  () => import('./work.ts'),
)
