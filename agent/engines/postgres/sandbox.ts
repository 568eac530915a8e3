import { randomBase32 } from '../../../shared/ids.ts'
import type { Run, Sandbox } from '../engine.ts'
import { addressOf } from './address.ts'
import type { PostgresConfig } from './config.ts'
import { claim, dropDatabase, sandboxClaim } from './databases.ts'
import { openSession } from './session.ts'

const PREFIX = 'holdfast_test_'

export const isSandboxName = (name: string) => /^holdfast_test_[0-9a-z]{10}$/.test(name)

/**
 * A name for a database on the same server, which a restore makes. The claim under another name than the restore's own
 * stands until it is disposed of.
 */
export async function openSandbox(config: PostgresConfig, run: Run): Promise<Sandbox<PostgresConfig>> {
  run.signal.throwIfAborted()
  const targetName = `${PREFIX}${randomBase32(10)}`
  const address = { ...(await addressOf(config)), database: config.maintenance_database }
  const holder = await openSession(address)
  await claim(holder, sandboxClaim(targetName))
  let disposed: Promise<void> | undefined
  return {
    place: { config, targetName, restored: true },
    dispose: () => {
      disposed ??= (async () => {
        // a session of its own: the holder may have been lost in a long test
        const session = await openSession(address)
        try {
          await dropDatabase(session, targetName)
        } finally {
          await session.close()
          await holder.close()
        }
      })()
      return disposed
    },
  }
}
