import type { ObjectServiceImplementation } from '../../shared/generated/holdfast/agent/v1/objects.ts'
import type { AgentContext } from '../fleet/guard.ts'
import { askUnlock } from './ask-unlock.ts'
import { commitBackup } from './commit-backup.ts'
import type { ControlPlane } from './control-plane.ts'
import { openBackups } from './open-backups.ts'
import { signGets } from './sign-gets.ts'
import { signPuts } from './sign-puts.ts'

/** The unary calls of a job's attempt. Who calls is the certificate's word, never the message's. */
export function objectService(
  cp: ControlPlane,
  onCommitted: (job: { id: string; attempt: number }) => void,
): ObjectServiceImplementation<AgentContext> {
  return {
    signPuts: async (request, { agent }) => ({ requests: await signPuts(cp, agent.agentId, request) }),
    signGets: async (request, { agent }) => ({ requests: await signGets(cp, agent.agentId, request) }),
    askUnlock: (request, { agent }) => askUnlock(cp, agent.agentId, request),
    openBackups: async (request, { agent }) => ({ backups: await openBackups(cp, agent.agentId, request) }),
    commitBackup: async (request, { agent }) => {
      const manifestSha256 = await commitBackup(cp, agent.agentId, request)
      onCommitted({ id: request.jobId, attempt: request.attempt })
      return { manifestSha256 }
    },
  }
}
