import { expect, test } from 'vitest'
import { portError } from './port-error.ts'

test('what keeps a port from being used has its own word and hint', () => {
  const at = { host: '127.0.0.1', port: 443 }
  const because = (code: string) => portError('the API', at, '--port', Object.assign(new Error(`listen ${code}`), { code }))
  expect(because('EADDRINUSE')).toMatchObject({ code: 'port_taken', message: 'port 443 on 127.0.0.1 for the API is taken' })
  expect(because('EACCES')).toMatchObject({
    message: expect.stringContaining('may not be used'),
    hint: expect.stringContaining('1024'),
  })
  expect(because('EADDRNOTAVAIL').message).toContain('is not of this host')
  expect(because('ENOBUFS')).toMatchObject({
    message: expect.stringContaining('cannot be used'),
    hint: expect.stringContaining('--port'),
  })
})
