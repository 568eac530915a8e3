/** What happened, for the audit trail. Recorded in a transaction of its own, so that a refusal outlives what it refused. */
export interface AuditEvent {
  /** key:NAME, agent:NAME, control-plane, anonymous:ADDRESS */
  readonly actor: string
  readonly action: string
  readonly subject: string
  readonly outcome: 'done' | 'refused' | 'failed'
  readonly detail: Readonly<Record<string, unknown>>
}

/** Rejects when it could not be recorded: then what it tells of is not answered as done. */
export type Audit = (event: AuditEvent) => Promise<void>
