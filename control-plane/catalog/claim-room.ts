import { and, inArray, ne } from 'drizzle-orm'
import { ACTIVE_STATES } from '../domain/job.ts'
import { policySchema } from '../domain/policy.ts'
import type { Db } from './catalog.ts'
import { jobs, policies } from './schema/schema.ts'

export interface ClaimLimits {
  /** Active jobs of one agent. */
  readonly perAgent: number
  /** Active jobs of the whole fleet, whichever control plane holds them. A policy may limit its own further. */
  readonly fleet: number
}

/** How many more jobs may run at this moment. Asked under the lock that makes claims one at a time. */
export interface Room {
  readonly fleet: number
  ofAgent(agentId: string): boolean
  readonly fullPolicies: string[]
  /** True when there is room for the job, which then takes it. */
  take(job: { readonly agentId: string; readonly policy: string | null }): boolean
}

export async function roomFor(tx: Db, limits: ClaimLimits): Promise<Room> {
  const active = await tx
    .select({ agentId: jobs.agentId, policy: jobs.policy })
    .from(jobs)
    .where(and(inArray(jobs.state, [...ACTIVE_STATES]), ne(jobs.kind, 'validate')))
  const limitOf = await policyLimits(tx)
  const agents = new Map<string, number>()
  const byPolicy = new Map<string, number>()
  const count = (of: Map<string, number>, key: string) => of.get(key) ?? 0
  let total = 0
  const add = (job: { readonly agentId: string; readonly policy: string | null }): void => {
    total++
    agents.set(job.agentId, count(agents, job.agentId) + 1)
    if (job.policy !== null) byPolicy.set(job.policy, count(byPolicy, job.policy) + 1)
  }
  for (const job of active) add(job)
  const ofAgent = (agentId: string) => count(agents, agentId) < limits.perAgent
  const ofPolicy = (policy: string) => count(byPolicy, policy) < (limitOf.get(policy) ?? Number.POSITIVE_INFINITY)
  return {
    fleet: limits.fleet - total,
    ofAgent,
    fullPolicies: [...limitOf.keys()].filter((policy) => !ofPolicy(policy)),
    take: (job) => {
      const room = total < limits.fleet && ofAgent(job.agentId) && (job.policy === null || ofPolicy(job.policy))
      if (room) add(job)
      return room
    },
  }
}

/** A policy that this program cannot read limits nothing here; it must not keep the whole fleet's jobs from starting. */
async function policyLimits(tx: Db): Promise<Map<string, number>> {
  const rows = await tx.select({ name: policies.name, spec: policies.spec }).from(policies)
  return new Map(
    rows.flatMap(({ name, spec }) => {
      const limit = policySchema.safeParse(spec).data?.limits?.parallel_jobs
      return limit === undefined ? [] : [[name, limit] as const]
    }),
  )
}
