import { leaveSpareMemory } from '../../shared/spare-memory.ts'
import { type PeriodicTask, type Scheduler, startScheduler } from '../scheduler/scheduler.ts'
import { applyRetention } from '../usecases/apply-retention.ts'
import { publishAuditHead } from '../usecases/audit-heads.ts'
import type { ControlPlane } from '../usecases/control-plane.ts'
import { destroyBackups } from '../usecases/destroy-backups.ts'
import { runDueSchedules } from '../usecases/run-schedules.ts'

/**
 * What a control plane does again and again beside the rounds of its work loop. Each task may run on several control planes at once: what
 * must happen once is decided in the catalog.
 */
export function startBackground(cp: ControlPlane, graceSeconds: number, publishFleet: () => Promise<void>): Scheduler {
  return startScheduler(backgroundTasks(cp, graceSeconds, publishFleet), cp.log)
}

export function backgroundTasks(cp: ControlPlane, graceSeconds: number, publishFleet: () => Promise<void>): PeriodicTask[] {
  return [
    { name: 'schedules', when: '*/10 * * * * *', run: () => runDueSchedules(cp, cp.clock.now()) },
    { name: 'retention', when: '0 20 * * * *', run: () => applyRetention(cp, 'control-plane', cp.clock.now()) },
    { name: 'removal', when: '30 */5 * * * *', run: () => destroyBackups(cp, cp.clock.now(), graceSeconds) },
    { name: 'sealed keys', when: '0 40 * * * *', run: publishFleet },
    { name: 'spare memory', when: '45 */5 * * * *', run: async () => leaveSpareMemory() },
    { name: 'audit head', when: '0 0 * * * *', run: () => publishAuditHead(cp) },
  ]
}
