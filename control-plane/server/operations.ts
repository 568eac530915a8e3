import type { Operations } from '../api/operations.ts'
import type { Targets } from '../storage/targets.ts'
import { accessOperations } from '../usecases/access-operations.ts'
import { agentOperations } from '../usecases/agent-operations.ts'
import { cleanupOperations } from '../usecases/cleanup-operations.ts'
import type { ControlPlane } from '../usecases/control-plane.ts'
import { fleetOperations } from '../usecases/fleet-operations.ts'
import type { JobNews } from '../usecases/job-events.ts'
import { jobOperations } from '../usecases/job-operations.ts'
import { status, systemTest } from '../usecases/status.ts'

/** Every use case that an operator can reach. */
export function operationsOf(cp: ControlPlane, of: { news: JobNews; targets: Targets; agentsServer: () => string }): Operations {
  return {
    ...jobOperations(cp, of.news),
    ...agentOperations(cp, of.agentsServer),
    ...accessOperations(cp),
    ...fleetOperations(cp, of.targets),
    ...cleanupOperations(cp),
    status: (by) => status(cp, by),
    systemTest: (by) => systemTest(cp, by),
  }
}
