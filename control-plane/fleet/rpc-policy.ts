import { HoldfastError } from '../../shared/errors.ts'

/** Deny by default: every RPC has a row, or the start fails. */
export interface RpcRow {
  /**
   * `agent`: a certificate of this authority that TLS verified, in the ledger, of an active agent. `token`: whoever has a
   * one-time token. `certificate`: whoever proves a certificate that may have ended. `anyone`: no proof asked, nothing told.
   */
  readonly who: 'agent' | 'token' | 'certificate' | 'anyone'
  /** Calls a minute from one agent, or from one address where no agent is known yet. As many at once. */
  readonly perMinute: number
  /** Action in the audit trail; null: only refusals are recorded, once in ten minutes for each caller and reason. */
  readonly action: string | null
}

export const RPC_POLICY: Readonly<Record<string, RpcRow>> = {
  '/holdfast.agent.v1.EnrolmentService/Enroll': { who: 'token', perMinute: 30, action: 'agent.enroll' },
  '/holdfast.agent.v1.EnrolmentService/Challenge': { who: 'certificate', perMinute: 60, action: null },
  '/holdfast.agent.v1.EnrolmentService/RenewLate': { who: 'certificate', perMinute: 30, action: 'agent.renew-late' },
  '/holdfast.agent.v1.IdentityService/Renew': { who: 'agent', perMinute: 10, action: 'agent.renew' },
  '/holdfast.agent.v1.SessionService/Connect': { who: 'agent', perMinute: 60, action: null },
  // a terabyte is about 22,000 packs, asked for in groups; a burst of small backups asks for one each
  '/holdfast.agent.v1.ObjectService/SignPuts': { who: 'agent', perMinute: 6000, action: null },
  '/holdfast.agent.v1.ObjectService/SignGets': { who: 'agent', perMinute: 6000, action: null },
  // every few seconds for as long as a job waits for a person
  '/holdfast.agent.v1.ObjectService/AskUnlock': { who: 'agent', perMinute: 300, action: null },
  '/holdfast.agent.v1.ObjectService/OpenBackups': { who: 'agent', perMinute: 60, action: 'backup.open' },
  '/holdfast.agent.v1.ObjectService/CommitBackup': { who: 'agent', perMinute: 600, action: 'backup.commit' },
  '/grpc.health.v1.Health/Check': { who: 'anyone', perMinute: 600, action: null },
  '/grpc.health.v1.Health/Watch': { who: 'anyone', perMinute: 60, action: null },
  '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo': { who: 'anyone', perMinute: 60, action: null },
}

/** The row of a path such as `/package.Service/Method`. Throws for one without. */
export function rowOf(path: string, policy: Readonly<Record<string, RpcRow>> = RPC_POLICY): RpcRow {
  const row = Object.hasOwn(policy, path) ? policy[path] : undefined
  if (row) return row
  throw new HoldfastError('internal', `the rpc ${path} has no row in the policy`, {
    hint: 'Say in control-plane/fleet/rpc-policy.ts who may call it, how often, and whether it is audited.',
  })
}
