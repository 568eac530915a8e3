import { expect, test } from 'vitest'
import { refuseTenant } from './refuse-tenant.ts'

test.each(['files', 'sqlite', 'postgres'])(
  'a tenant that is named is refused for %s, which has none, and never ignored',
  (engine) => {
    expect(() => refuseTenant(engine, undefined)).not.toThrow()
    for (const tenant of ['one', '']) {
      expect(() => refuseTenant(engine, tenant)).toThrow(
        expect.objectContaining({ code: 'not_supported', message: expect.stringContaining('tenant') }),
      )
    }
  },
)
