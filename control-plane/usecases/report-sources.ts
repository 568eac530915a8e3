import { isHoldfastError } from '../../shared/errors.ts'
import type { Source } from '../../shared/generated/holdfast/agent/v1/session.ts'
import { NAME } from '../../shared/ids.ts'
import { syncSources } from '../catalog/sources.ts'
import type { ControlPlane } from './control-plane.ts'

/** More than any host has: an agent that names more is broken or hostile. */
const MAX_SOURCES = 1000

/** The agent's whole list. A source whose name is not allowed is left out and said in the log; the others count. */
export async function reportSources(cp: ControlPlane, agentId: string, sources: readonly Source[]): Promise<void> {
  const usable = sources.slice(0, MAX_SOURCES).filter((source) => NAME.test(source.name) && !source.name.includes('..'))
  if (usable.length < sources.length)
    cp.log.warn({ agent: agentId, named: sources.length, used: usable.length }, 'sources were left out')
  try {
    await syncSources(cp.catalog.db, agentId, usable, cp.clock.now())
  } catch (error) {
    // the agent was removed while it spoke
    if (!isHoldfastError(error, 'not_found')) throw error
  }
  cp.wake()
}
