import { getCACertificates } from 'node:tls'

let roots: readonly string[] | undefined

/**
 * Certificates (PEM) that vouch for servers that are not the control plane's own: Node's and the system's, so that a company's authority
 * installed on a host is believed by agents and control planes alike. Read once.
 */
export function trustedRoots(): readonly string[] {
  roots ??= [...new Set([...getCACertificates('default'), ...getCACertificates('system')])]
  return roots
}
