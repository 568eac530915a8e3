let roots: readonly string[] | undefined

/**
 * Certificates (PEM) that vouch for servers that are not the control plane's own: Node's and the system's, so that a company's authority
 * installed on a host is believed by agents and control planes alike. Read once. TLS is loaded only here: a job that needs none starts sooner.
 */
export function trustedRoots(): readonly string[] {
  if (roots) return roots
  const { getCACertificates } = process.getBuiltinModule('node:tls')
  roots = [...new Set([...getCACertificates('default'), ...getCACertificates('system')])]
  return roots
}
