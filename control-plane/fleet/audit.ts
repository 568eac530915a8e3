import type { AuditEvent } from '../domain/audit-chain.ts'

/**
 * Recorded in a transaction of its own, so that a refusal outlives what it refused. Rejects when it could not be recorded: then what it
 * tells of is not answered as done.
 */
export type Audit = (event: AuditEvent) => Promise<void>
