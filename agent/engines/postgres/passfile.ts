import { Secret } from '../../../shared/secret.ts'

/**
 * The first line of a password file that fits, or null (PostgreSQL 18, 32.16: `host:port:database:user:password`, `*` for
 * any, backslash before a colon or a backslash). A socket's folder matches `localhost` too.
 */
export function passwordFrom(text: string, at: { host: string; port: number; database: string; user: string }): Secret | null {
  for (const line of text.split(/\r?\n/)) {
    if (line === '' || line.startsWith('#')) continue
    const [host = '', port = '', database = '', user = '', ...rest] = fields(line)
    const hosts = at.host.startsWith('/') ? [at.host, 'localhost'] : [at.host]
    const fits =
      (host === '*' || hosts.includes(host)) &&
      (port === '*' || port === String(at.port)) &&
      (database === '*' || database === at.database) &&
      (user === '*' || user === at.user)
    if (fits && rest.length > 0) return new Secret(rest.join(':'))
  }
  return null
}

function fields(line: string): string[] {
  const found: string[] = []
  let field = ''
  for (let i = 0; i < line.length; i++) {
    const letter = line[i] ?? ''
    if (letter === '\\' && i + 1 < line.length) {
      i++
      field += line[i]
    } else if (letter === ':') {
      found.push(field)
      field = ''
    } else {
      field += letter
    }
  }
  return [...found, field]
}
