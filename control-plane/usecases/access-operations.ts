import { requireRecipient } from '../../shared/age/age.ts'
import type { Operations } from '../api/operations.ts'
import { type AuditRow, listAuditEntries, verifyAudit } from '../catalog/audit.ts'
import { keyCursor, keyPage } from '../catalog/key-cursor.ts'
import { listTargets } from '../catalog/policies.ts'
import { createApiKey, listApiKeys, revokeApiKey } from './api-keys.ts'
import { publishedAuditHeads } from './audit-heads.ts'
import type { ControlPlane } from './control-plane.ts'

type AccessOperations = Pick<
  Operations,
  'listApiKeys' | 'createApiKey' | 'revokeApiKey' | 'fleetKeys' | 'addRecovery' | 'listAudit' | 'verifyAudit'
>

/** API keys, recovery recipients and the audit trail as an operator reaches them. */
export function accessOperations(cp: ControlPlane): AccessOperations {
  const { db } = cp.catalog
  return {
    listApiKeys: (_by, page) => listApiKeys(cp, page),
    createApiKey: (by, request) => createApiKey(cp, by, request),
    revokeApiKey: (_by, id) => revokeApiKey(cp, id),
    fleetKeys: async () => fleetKeys(cp),
    addRecovery: async (_by, { recipient }) => {
      await cp.fleet.addRecoveryRecipient(requireRecipient(recipient))
      // every bucket has the fleet's keys, sealed to whoever may recover it
      for (const target of await listTargets(db)) await cp.fleet.publish(await cp.target(target.name))
      return fleetKeys(cp)
    },
    listAudit: async (_by, filter, page) => {
      const after = keyCursor(page.cursor)
      const rows = await listAuditEntries(db, filter, {
        limit: page.limit + 1,
        before: after === undefined ? undefined : Number(after),
      })
      return keyPage(rows.map(viewEntry), page.limit, (entry) => String(entry.sequence))
    },
    verifyAudit: async () => {
      const check = await verifyAudit(db, await publishedAuditHeads(cp))
      return {
        ...check,
        head: check.head.toString('hex'),
        errors: check.errors.map(({ sequence, message }) => ({ sequence, message })),
      }
    },
  }
}

const fleetKeys = ({ fleet }: ControlPlane) => ({
  fleet_id: fleet.id,
  verifying_key: fleet.verifyingKeyText,
  fleet_recipient: fleet.recipient,
  recovery_recipients: [...fleet.recoveryRecipients],
})

const viewEntry = (row: AuditRow) => ({
  sequence: row.sequence,
  at: row.at.toISOString(),
  actor: row.actor,
  action: row.action,
  subject: row.subject,
  outcome: row.outcome,
  detail: row.detail,
  hash: row.hash.toString('hex'),
})
