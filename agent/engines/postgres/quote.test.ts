import fc from 'fast-check'
import { expect, test } from 'vitest'
import { HOSTILE_NAMES } from '../testing/names.ts'
import { asciiIdent, cutToBytes, ident, literal } from './quote.ts'

/** As the scanner of PostgreSQL 18 reads U&"..." (4.1.1): the name that it stands for. */
function read(quoted: string): string {
  if (!quoted.startsWith('U&')) return quoted.slice(1, -1).replaceAll('""', '"')
  return quoted
    .slice(3, -1)
    .replace(/\\(?:\+([0-9a-f]{6})|([0-9a-f]{4}))/g, (_, long, short) => String.fromCodePoint(Number.parseInt(long ?? short, 16)))
}

const names = fc.string({ unit: 'binary', minLength: 1 }).filter((text) => !text.includes('\0') && text.isWellFormed())

test('a name for psql is printable ASCII on one line, whatever the name: nothing in it can end the quotes', () => {
  const check = (name: string) => {
    expect(asciiIdent(name)).toMatch(/^(U&)?"[A-Za-z0-9_\\+]*"$/)
    expect(read(asciiIdent(name))).toBe(name)
  }
  HOSTILE_NAMES.forEach(check)
  fc.assert(fc.property(names, check))
})

test('quotes and backslashes are doubled', () => {
  expect(ident('a"b')).toBe('"a""b"')
  expect(literal("it's")).toBe("'it''s'")
  expect(literal("\\'")).toBe("E'\\\\'''")
  for (const bad of ['', 'a\0b']) expect(() => ident(bad)).toThrow(expect.objectContaining({ code: 'invalid_name' }))
})

test('a name is cut between letters', () => {
  expect(cutToBytes('aé☃', 3)).toBe('aé')
  fc.assert(
    fc.property(names, fc.nat(70), (name, bytes) => {
      const cut = cutToBytes(name, bytes)
      expect(Buffer.byteLength(cut)).toBeLessThanOrEqual(bytes)
      expect(name.startsWith(cut) && cut.isWellFormed()).toBe(true)
    }),
  )
})
