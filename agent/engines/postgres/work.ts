import type { EngineWork } from '../loaded.ts'
import { addressOf } from './address.ts'
import { backup } from './backup.ts'
import { checkPlace } from './check.ts'
import type { PostgresConfig } from './config.ts'
import { countPlace } from './count.ts'
import { discover } from './discover.ts'
import { preflight } from './preflight.ts'
import { preview } from './preview.ts'
import { restore } from './restore.ts'
import { openSandbox } from './sandbox.ts'
import { serverOf } from './server.ts'
import { withSessions } from './session.ts'

/** What the engine does; what it is known by stands in postgres.ts. */
export const work: EngineWork<PostgresConfig> = {
  discover,
  describe: async (config, run) => {
    const address = await addressOf(config)
    return withSessions(address, run, async (sessions) => {
      const session = await sessions.open()
      const server = await serverOf(session)
      const [row] = await session.rows<{ size: string }>('select pg_database_size(current_database()) as size')
      return {
        version: server.version,
        database: address.database,
        host: address.host,
        port: String(address.port),
        role: server.standby ? 'standby' : 'primary',
        size_bytes: row?.size ?? '0',
      }
    })
  },
  preflight,
  backup,
  preview,
  restore,
  placeKey: async ({ config, targetName }) => {
    const { host, port, database } = await addressOf(config)
    return JSON.stringify([host, port, targetName ?? database])
  },
  count: countPlace,
  check: checkPlace,
  sandbox: openSandbox,
}
