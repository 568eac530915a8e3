import type { Clock } from '../../shared/clock.ts'
import { HoldfastError } from '../../shared/errors.ts'
import type { Catalog } from '../catalog/catalog.ts'
import { type AgentRow, agentInUse, lastAgentNamed, lockAgent, setAgentState } from '../catalog/identity-agents.ts'
import { revokeCertificates } from '../catalog/identity-certificates.ts'
import { SESSIONS_CHANNEL } from '../fleet/settings.ts'

/**
 * Takes an agent's identity for good; its name is free again, its backups stay. Every control plane ends its streams within
 * seconds. Addresses that were signed before stay valid until they expire, at most 15 minutes. May be repeated.
 */
export async function revokeAgent(
  deps: { catalog: Catalog; clock: Clock },
  request: { name: string; reason: string },
): Promise<AgentRow> {
  const agent = (await agentInUse(deps.catalog.db, request.name)) ?? (await lastAgentNamed(deps.catalog.db, request.name))
  if (!agent) throw notFound(request.name)
  const revoked = await deps.catalog.transaction(async (tx) => {
    const locked = await lockAgent(tx, agent.id)
    if (!locked) throw notFound(request.name)
    if (locked.state === 'revoked' || locked.state === 'replaced') return locked
    await setAgentState(tx, locked.id, 'revoked', request.reason)
    await revokeCertificates(tx, locked.id, { reason: request.reason, now: deps.clock.now() })
    return { ...locked, state: 'revoked' as const, stateReason: request.reason }
  })
  await deps.catalog.notify(SESSIONS_CHANNEL, revoked.id)
  return revoked
}

const notFound = (name: string) =>
  new HoldfastError('not_found', `there is no agent named ${name}`, { hint: 'Look at `holdfast agents`.' })
