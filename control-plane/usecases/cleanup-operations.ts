import { HoldfastError } from '../../shared/errors.ts'
import { actorOf, type Caller, type Operations } from '../api/operations.ts'
import type { CleanupView } from '../api/schemas/backups.ts'
import { acceptFall, findSource, fullName } from '../catalog/sources.ts'
import { selects } from '../domain/source-pattern.ts'
import { viewSources } from './agent-operations.ts'
import { applyRetention, planCleanup, type SourcePlan } from './apply-retention.ts'
import type { ControlPlane } from './control-plane.ts'

/** Retention as an operator reaches it: what is shown is what would be carried out. */
export function cleanupOperations(cp: ControlPlane): Pick<Operations, 'previewCleanup' | 'cleanup' | 'acceptFall'> {
  return {
    previewCleanup: async (by) => view(by, await planCleanup(cp.catalog.db, cp.clock.now()), true),
    cleanup: async (by) => {
      const plans = await applyRetention(cp, actorOf(by), cp.clock.now())
      cp.wake()
      return view(by, plans, false)
    },
    acceptFall: async (_by, name) => {
      const source = await findSource(cp.catalog.db, name)
      await acceptFall(cp.catalog.db, source.id, cp.clock.now())
      const found = (await viewSources(cp)).find((one) => one.source === name)
      if (found) return found
      throw new HoldfastError('not_found', `source ${name} is not known`)
    },
  }
}

function view(by: Caller, plans: readonly SourcePlan[], dryRun: boolean): CleanupView {
  const mine = plans.filter(({ source }) => selects(by.sources, fullName(source)))
  const remove = mine.flatMap(removals)
  return {
    dry_run: dryRun,
    remove,
    keep: mine.reduce((sum, { plan }) => sum + plan.keep.length, 0),
    freed_bytes: remove.reduce((sum, one) => sum + one.stored_bytes, 0),
    held: mine.flatMap(({ source, plan }) => plan.held.map((hold) => ({ source: fullName(source), reason: hold.message }))),
    findings: mine.flatMap(({ source, plan }) =>
      plan.held.map((hold) => ({
        code: hold.code,
        severity: 'warning' as const,
        subject: fullName(source),
        message: `nothing is removed of ${fullName(source)}: ${hold.message}`,
        hint: HINTS[hold.code],
      })),
    ),
  }
}

const HINTS = {
  sharp_fall: 'Look at the newest backups; when they are right, say so with "holdfast accept-fall" and the source.',
  too_few_verified: 'Verify some of its backups with "holdfast verify".',
} as const

function removals({ source, plan, backups }: SourcePlan): CleanupView['remove'] {
  const byId = new Map(backups.map((backup) => [backup.id, backup]))
  return plan.remove.flatMap(({ id, reason }) => {
    const backup = byId.get(id)
    if (!backup) return []
    return {
      id,
      source: fullName(source),
      created_at: backup.createdAt.toISOString(),
      stored_bytes: backup.storedBytes ?? 0,
      reason,
    }
  })
}
