import { describe, expect, test } from 'vitest'
import { BACKUP_ID, newBackupId, parseSourceName, requireName, stamp } from './ids.ts'

describe('names of hosts and sources', () => {
  test.each(['a', '0', 'db1', 'a.b_c-d', `a${'b'.repeat(62)}`])('%j is one', (name) => {
    expect(requireName('host name', name)).toBe(name)
    expect(parseSourceName(`db1/${name}`)).toEqual({ host: 'db1', name })
  })

  test.each(['', 'A', 'ä', '-a', '.a', '_a', 'a b', 'a/b', 'a\n', 'a\0', '..', 'a..b', 'a%', `a${'b'.repeat(63)}`])(
    '%j is refused: [a-z0-9][a-z0-9._-]{0,62} and no folder up',
    (name) => {
      expect(() => requireName('host name', name)).toThrow(expect.objectContaining({ code: 'invalid_name' }))
      expect(() => parseSourceName(`db1/${name}`)).toThrow(expect.objectContaining({ code: 'invalid_name' }))
    },
  )
})

describe('the id of a backup', () => {
  test('is the stamp of the time that it is given, in UTC, and ten random base-32 characters', () => {
    const time = new Date('2026-11-21T23:59:59.999+02:00')
    expect(stamp(time)).toBe('20261121T215959Z')
    const ids = new Set(Array.from({ length: 2000 }, () => newBackupId(time)))
    expect(ids.size).toBe(2000)
    for (const id of ids) {
      expect(id).toMatch(BACKUP_ID)
      expect(id.startsWith('20261121T215959Z-')).toBe(true)
    }
    // every character of the alphabet comes: none of the fifty bits is always the same
    expect(new Set([...ids].join('').replaceAll('20261121T215959Z-', '')).size).toBe(32)
  })
})
