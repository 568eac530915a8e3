import { describe, expect, test } from 'vitest'
import { isWithheld, sealingOf, strictestChoice } from './recipients.ts'

const fleet = { fleet: 'age1fleet', recovery: ['age1safe', 'age1vault'] }

describe('whom backups are sealed to', () => {
  test('the fleet and the recovery recipients, or these alone, and then the fleet may open nothing that is leaned on either', () => {
    expect(sealingOf('all', fleet)).toEqual({ recipients: ['age1fleet', 'age1safe', 'age1vault'], withheldFrom: [] })
    expect(sealingOf('recovery', fleet)).toEqual({ recipients: ['age1safe', 'age1vault'], withheldFrom: ['age1fleet'] })
  })

  test('a policy without the fleet’s recipient is refused where there is no recovery recipient', () => {
    expect(() => sealingOf('recovery', { fleet: 'age1fleet', recovery: [] })).toThrow(
      expect.objectContaining({ code: 'invalid_config' }),
    )
  })

  test('the strictest of the policies that select a source decides', () => {
    expect(strictestChoice([])).toBe('all')
    expect(strictestChoice(['all', 'all'])).toBe('all')
    expect(strictestChoice(['all', 'recovery', 'all'])).toBe('recovery')
  })

  test('what was sealed to nobody yet is withheld from nobody', () => {
    expect(isWithheld(null, 'age1fleet')).toBe(false)
    expect(isWithheld([], 'age1fleet')).toBe(false)
    expect(isWithheld(['age1fleet', 'age1safe'], 'age1fleet')).toBe(false)
    expect(isWithheld(['age1safe'], 'age1fleet')).toBe(true)
  })
})
