import { afterEach, expect, test } from 'vitest'
import { HoldfastError } from '../../shared/errors.ts'
import { authorization as as, type FakeApi, fakeApi } from './testing/fake-api.ts'
import { BACKUP } from './testing/fake-operations.ts'

let api: FakeApi
afterEach(() => api.app.close())

test('what was done, refused and failed is recorded with who, what and which', async () => {
  api = await fakeApi({
    startVerify: async () => {
      throw new HoldfastError('agent_offline', 'no agent is connected')
    },
  })
  await api.app.inject({ method: 'DELETE', url: `/api/v1/backups/${BACKUP}`, headers: as('admin') })
  await api.app.inject({ method: 'DELETE', url: `/api/v1/backups/${BACKUP}`, headers: as('viewer') })
  await api.app.inject({ method: 'POST', url: `/api/v1/backups/${BACKUP}/verify`, headers: as('operator') })
  await api.app.inject({ method: 'POST', url: '/api/v1/backups', headers: as('operator'), body: { sources: ['db1/app'] } })
  expect(api.audit).toMatchObject([
    { actor: 'key:admin', action: 'backup.delete', subject: BACKUP, outcome: 'done', detail: { status: 200 } },
    { actor: 'key:viewer', action: 'backup.delete', subject: BACKUP, outcome: 'refused', detail: { code: 'forbidden' } },
    { actor: 'key:operator', action: 'verify.start', subject: BACKUP, outcome: 'failed', detail: { code: 'agent_offline' } },
    { actor: 'key:operator', action: 'backup.start', subject: 'db1/app', outcome: 'done', detail: { request: { type: 'full' } } },
  ])
})

test('a stranger is recorded by address, without what was sent', async () => {
  api = await fakeApi()
  await api.app.inject({
    method: 'POST',
    url: '/api/v1/api-keys',
    body: { name: 'mine', role: 'admin' },
    remoteAddress: '10.1.2.3',
  })
  await api.app.inject({ url: '/api/v1/backups', headers: { authorization: 'ApiKey hfk_wrong' } })
  expect(api.audit).toMatchObject([
    { actor: 'anonymous:10.1.2.3', action: 'api-key.create', outcome: 'refused' },
    { actor: 'anonymous:127.0.0.1', action: 'GET /api/v1/backups', outcome: 'refused' },
  ])
  expect(JSON.stringify(api.audit)).not.toContain('hfk_wrong')
  expect(api.audit[0]?.detail).not.toHaveProperty('request')
})

test('reading what one may read is not recorded', async () => {
  api = await fakeApi()
  await api.app.inject({ url: '/api/v1/backups', headers: as('viewer') })
  expect(api.audit).toEqual([])
})

test('a secret that is answered does not reach the trail', async () => {
  api = await fakeApi()
  const body = { name: 'ci', role: 'viewer' }
  const answer = await api.app.inject({ method: 'POST', url: '/api/v1/api-keys', headers: as('admin'), body })
  expect(answer.json().key).toBe('hfk_secret')
  expect(JSON.stringify(api.audit)).not.toContain('hfk_secret')
})

test('an answer that cannot be recorded is not given', async () => {
  const record = async () => {
    throw new HoldfastError('catalog_unreachable', 'the catalog cannot be reached')
  }
  api = await fakeApi({}, { audit: record })
  const answer = await api.app.inject({ method: 'DELETE', url: `/api/v1/backups/${BACKUP}`, headers: as('admin') })
  expect([answer.statusCode, answer.json().code]).toEqual([503, 'catalog_unreachable'])
})

test('nor is a refusal, and what kept it from being recorded is for the log alone', async () => {
  const record = async () => {
    throw new Error('failed query: insert into audit_entries')
  }
  api = await fakeApi({}, { audit: record })
  const answer = await api.app.inject({ method: 'POST', url: '/api/v1/backups', headers: as('admin'), body: { type: 'odd' } })
  expect([answer.statusCode, answer.json().code]).toEqual([500, 'internal'])
  expect(answer.headers['content-type']).toContain('application/problem+json')
  expect(answer.body).not.toContain('insert')
})
