import { HoldfastError } from '../../../shared/errors.ts'

/** PostgreSQL's limit for names of databases, roles and relations, in bytes of the server's encoding. */
export const MAX_NAME_BYTES = 63

/** An identifier for the protocol. */
export function ident(name: string): string {
  if (name === '' || name.includes('\0')) {
    throw new HoldfastError('invalid_name', `${JSON.stringify(name)} is no name that PostgreSQL can have`, {
      hint: 'Give a name of 1 to 63 bytes without a NUL.',
    })
  }
  return `"${name.replaceAll('"', '""')}"`
}

/** A string for the protocol, whatever standard_conforming_strings says. */
export function literal(text: string): string {
  const quoted = `'${text.replaceAll("'", "''").replaceAll('\\', '\\\\')}'`
  return text.includes('\\') ? `E${quoted}` : quoted
}

/**
 * The same identifier in printable ASCII alone, for psql: a newline would end its line, and a hostile server that claims
 * an East Asian encoding could make a quote part of the letter before it, so that the rest is read as commands of psql
 * (the way of CVE-2025-1094). PostgreSQL converts the escapes to the database's encoding.
 */
export function asciiIdent(name: string): string {
  if (/^[A-Za-z_][A-Za-z0-9_]*$/.test(name)) return `"${name}"`
  const escaped = [...ident(name).slice(1, -1).replaceAll('""', '"')].map((letter) => {
    if (/^[A-Za-z0-9_]$/.test(letter)) return letter
    const code = letter.codePointAt(0) ?? 0
    return code > 0xffff ? `\\+${code.toString(16).padStart(6, '0')}` : `\\${code.toString(16).padStart(4, '0')}`
  })
  return `U&"${escaped.join('')}"`
}

/** The longest beginning of a name that has at most `bytes` bytes in UTF-8, without half a letter. */
export function cutToBytes(name: string, bytes: number): string {
  let cut = ''
  for (const letter of name) {
    if (Buffer.byteLength(cut + letter) > bytes) break
    cut += letter
  }
  return cut
}
