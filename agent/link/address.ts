import { HoldfastError } from '../../shared/errors.ts'

export interface Address {
  readonly host: string
  readonly port: number
}

/** `host:port`, `host` (port 7443) or `[v6]:port`. Throws `invalid_argument`. */
export function parseAddress(text: string): Address {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9][A-Za-z0-9._-]{0,252}))(?::(\d{1,5}))?$/.exec(text.trim())
  const host = match?.[1] ?? match?.[2]
  const port = match?.[3] === undefined ? 7443 : Number(match[3])
  if (host && port >= 1 && port <= 65_534) return { host, port }
  throw new HoldfastError('invalid_argument', `${JSON.stringify(text.slice(0, 200))} is not an address of a control plane`, {
    hint: 'Give it as host:port, for example cp.example.com:7443.',
  })
}

export const addressText = ({ host, port }: Address): string => `${host.includes(':') ? `[${host}]` : host}:${port}`

/** Enrolment and late renewal are served on the port after the agents'. */
export const enrolmentAddressOf = ({ host, port }: Address): Address => ({ host, port: port + 1 })
