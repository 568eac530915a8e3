import { HoldfastError } from './errors.ts'

/** Why a listener could not be opened, and what to do. `option`: where its port is set. */
export function portError(what: string, at: { host: string; port: number }, option: string, cause: unknown): HoldfastError {
  // grpc-js has the system's code in its text alone
  const text = cause instanceof Error ? `${'code' in cause ? cause.code : ''} ${cause.message}` : String(cause)
  const [, why, hint] = REASONS.find(([code]) => text.includes(code)) ?? OTHER
  return new HoldfastError('port_taken', `port ${at.port} on ${at.host} for ${what} ${why}`, { hint: hint(option), cause })
}

type Reason = readonly [code: string, why: string, hint: (option: string) => string]

const REASONS: readonly Reason[] = [
  ['EADDRINUSE', 'is taken', (option) => `Another program listens there: stop it, or choose another port with ${option}.`],
  [
    'EACCES',
    'may not be used',
    (option) => `Ports below 1024 are for root, or for who has CAP_NET_BIND_SERVICE: choose another with ${option}.`,
  ],
  ['EADDRNOTAVAIL', 'is not of this host', () => 'Listen on an address that the host has; `ip address` lists them.'],
]
const OTHER: Reason = ['', 'cannot be used', (option) => `Look at the cause, or choose another address or port with ${option}.`]
