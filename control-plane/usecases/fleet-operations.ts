import { HoldfastError } from '../../shared/errors.ts'
import { parseTargetConfig } from '../../shared/storage/config.ts'
import type { Operations } from '../api/operations.ts'
import type { FleetBody, FleetDiffView } from '../api/schemas/fleet.ts'
import { keyCursor, keyPage } from '../catalog/key-cursor.ts'
import { deletePolicy, deleteTarget, listPolicies, listTargets, putPolicy } from '../catalog/policies.ts'
import { fullName, listSources } from '../catalog/sources.ts'
import { diffFleetFile, type FleetChange, type FleetFile, type FleetState, parseFleetFile } from '../domain/fleet-file.ts'
import { policySchema, selectsSource } from '../domain/policy.ts'
import { policyFindings } from '../domain/policy-findings.ts'
import { requireRecovery } from '../domain/recipients.ts'
import type { Targets } from '../storage/targets.ts'
import type { ControlPlane } from './control-plane.ts'

type FleetOperations = Pick<Operations, 'listTargets' | 'listPolicies' | 'diffFleet' | 'applyFleet'>

/** Targets and policies as an operator reaches them. */
export function fleetOperations(cp: ControlPlane, targets: Targets): FleetOperations {
  const { db } = cp.catalog
  return {
    listTargets: async (_by, page) => {
      const after = keyCursor(page.cursor) ?? ''
      const rows = (await listTargets(db)).filter((row) => row.name > after)
      const views = rows.map((row) => ({
        name: row.name,
        kind: row.kind,
        config: row.config,
        facts: row.facts,
        probed_at: row.probedAt?.toISOString() ?? null,
      }))
      return keyPage(views, page.limit, (row) => row.name)
    },
    listPolicies: async (_by, page) => {
      const after = keyCursor(page.cursor) ?? ''
      const sources = await listSources(db, { present: true })
      const views = (await listPolicies(db))
        .filter((row) => row.name > after)
        .map((row) => ({
          name: row.name,
          spec: row.spec,
          revision: row.revision,
          sources: sources.filter((source) => selectsSource(policySchema.parse(row.spec).select, source)).map(fullName),
          updated_at: row.updatedAt.toISOString(),
        }))
      return keyPage(views, page.limit, (row) => row.name)
    },
    diffFleet: async (_by, body) => viewDiff(cp, await compare(cp, body), false),
    applyFleet: async (_by, body) => applyFleet(cp, targets, body),
  }
}

interface Comparison {
  readonly file: FleetFile
  readonly changes: FleetChange[]
}

async function compare(cp: ControlPlane, body: FleetBody): Promise<Comparison> {
  const file = parseFleetFile(body)
  const withheld = Object.values(file.policies ?? {}).some((policy) => policy.recipients === 'recovery')
  if (withheld) requireRecovery(cp.fleet.recoveryRecipients)
  for (const [name, config] of Object.entries(file.targets ?? {})) parseTargetConfig(name, config)
  const now = {
    targets: Object.fromEntries((await listTargets(cp.catalog.db)).map((row) => [row.name, row.config])),
    policies: Object.fromEntries((await listPolicies(cp.catalog.db)).map((row) => [row.name, policySchema.parse(row.spec)])),
  }
  requireTargets({ targets: file.targets ?? now.targets, policies: file.policies ?? now.policies }, cp.settings.defaultTarget)
  return { file, changes: diffFleetFile(file, now) }
}

/** Of the fleet as it would be: no policy, and no source without one, may be left without a place for its backups. */
function requireTargets(then: FleetState, defaultTarget: string): void {
  for (const [name, policy] of Object.entries(then.policies)) {
    const [target] = policy.targets
    if (Object.hasOwn(then.targets, target)) continue
    throw new HoldfastError('invalid_config', `policy ${name} names target ${target}, which does not exist`, {
      hint: 'Add the target to the file, or name one that is in it; a file without the key targets leaves them all as they are.',
    })
  }
  if (Object.hasOwn(then.targets, defaultTarget)) return
  throw new HoldfastError('invalid_config', `target ${defaultTarget} is where backups go that no policy sends elsewhere`, {
    hint: 'Keep it in the file as server.yaml has it; a file without the key targets leaves them all as they are.',
  })
}

/** Targets first, each probed before it is taken in; a target that cannot be used ends it before any policy has changed. */
async function applyFleet(cp: ControlPlane, targets: Targets, body: FleetBody): Promise<FleetDiffView> {
  const comparison = await compare(cp, body)
  const { file, changes } = comparison
  for (const change of changes) {
    if (change.kind !== 'target' || change.action === 'delete') continue
    const config = parseTargetConfig(change.name, file.targets?.[change.name])
    if (config.kind === 'local') {
      throw new HoldfastError('invalid_config', `target ${change.name} is a folder of the control plane, which it has to serve`, {
        hint: 'Name local targets in server.yaml and start the control plane again; the fleet file names targets that agents reach themselves.',
      })
    }
    await targets.configure(change.name, config)
    await cp.fleet.publish(await cp.target(change.name))
  }
  await cp.catalog.transaction(async (tx) => {
    for (const change of changes) {
      const policy = file.policies?.[change.name]
      if (change.kind === 'policy' && policy) await putPolicy(tx, change.name, { ...policy }, cp.clock.now())
      else if (change.kind === 'policy') await deletePolicy(tx, change.name)
      else if (change.action === 'delete') await deleteTarget(tx, change.name)
    }
  })
  cp.wake()
  return await viewDiff(cp, comparison, true)
}

async function viewDiff(cp: ControlPlane, { file, changes }: Comparison, applied: boolean): Promise<FleetDiffView> {
  const sources = await listSources(cp.catalog.db, { present: true })
  return {
    applied,
    changes: changes.map((change) => ({ ...change, fields: change.fields.map((field) => ({ ...field })) })),
    findings: policyFindings(file.policies ?? {}, sources).map((finding) => ({ ...finding })),
  }
}
