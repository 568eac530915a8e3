/** What an operator may set about identities and streams. Units in the names. */
export interface FleetSettings {
  readonly certificateLifetimeMs: number
  /** How long after its end a certificate may still be renewed. */
  readonly lateRenewalMs: number
  readonly heartbeatSeconds: number
  /** An attempt, or a stream, that hears nothing for this long is given up. */
  readonly leaseSeconds: number
  /** How often an instance looks for revocations and newer streams; a notification only makes it earlier. */
  readonly pollMs: number
}

export const DEFAULT_SETTINGS: FleetSettings = {
  certificateLifetimeMs: 24 * 3_600_000,
  lateRenewalMs: 30 * 86_400_000,
  heartbeatSeconds: 10,
  leaseSeconds: 60,
  pollMs: 2000,
}

/** A token is valid this long unless told otherwise, and never longer than the second. */
export const TOKEN_SECONDS = 15 * 60
export const MAX_TOKEN_SECONDS = 7 * 24 * 3600

/** The channel on which control planes tell each other that an agent's streams or state changed; the payload is the agent's id. */
export const SESSIONS_CHANNEL = 'fleet_sessions'
