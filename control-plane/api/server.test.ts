import { connect } from 'node:net'
import { afterEach, describe, expect, test } from 'vitest'
import { HoldfastError } from '../../shared/errors.ts'
import { ACCESS } from './access.ts'
import { authorization, type FakeApi, fakeApi, KEYS } from './testing/fake-api.ts'
import { BACKUP, JOB, job, OTHER_BACKUP } from './testing/fake-operations.ts'

let api: FakeApi
afterEach(() => api.app.close())

const as = authorization
const V1 = '/api/v1'

describe('who may call', () => {
  test('a route without a row stops the start', async () => {
    api = await fakeApi()
    const { 'GET /api/v1/status': _left, ...rest } = ACCESS
    await expect(fakeApi({}, { access: rest })).rejects.toThrow('GET /api/v1/status has no row')
  })

  test('every row has its route', async () => {
    api = await fakeApi()
    await api.app.ready()
    for (const name of Object.keys(ACCESS)) {
      const [method, url] = name.split(' ') as [string, string]
      expect(api.app.hasRoute({ method: method as 'GET', url }), name).toBe(true)
    }
  })

  test('no key, a wrong key and another scheme are refused on every route but the open ones', async () => {
    api = await fakeApi()
    for (const [name, row] of Object.entries(ACCESS)) {
      const [method, path] = name.split(' ') as ['GET', string]
      const url = path.replace(':id', BACKUP).replace(':name', 'db1')
      const open = row.who === 'anyone' || row.who === 'scraper'
      const answer = await api.app.inject({ method, url, remoteAddress: `10.0.0.${Object.keys(ACCESS).indexOf(name)}` })
      expect(answer.statusCode === 401, name).toBe(!open)
    }
    for (const header of [
      `ApiKey hfk_${'z'.repeat(26)}`,
      `Bearer ${KEYS.admin}`,
      'ApiKey ',
      'ApiKey hfk_iiii',
      `ApiKey ${KEYS.admin}x!`,
    ]) {
      const answer = await api.app.inject({ url: `${V1}/backups`, headers: { authorization: header } })
      expect(answer.statusCode, header).toBe(401)
      expect(answer.headers['www-authenticate']).toBe('ApiKey realm="holdfast"')
      expect(answer.json()).toMatchObject({ code: 'unauthenticated', status: 401, hint: expect.any(String) })
    }
  })

  test('each role can do what it may and nothing above', async () => {
    api = await fakeApi()
    const status = async (key: keyof typeof KEYS, method: 'GET' | 'POST' | 'DELETE', url: string, body?: object) =>
      (await api.app.inject({ method, url, headers: as(key), ...(body ? { body } : {}) })).statusCode
    expect(await status('viewer', 'GET', `${V1}/backups`)).toBe(200)
    expect(await status('viewer', 'POST', `${V1}/backups`, {})).toBe(403)
    expect(await status('operator', 'POST', `${V1}/backups`, {})).toBe(202)
    expect(await status('operator', 'DELETE', `${V1}/backups/${BACKUP}`)).toBe(403)
    expect(await status('admin', 'DELETE', `${V1}/backups/${BACKUP}`)).toBe(200)
    expect(await status('operator', 'GET', `${V1}/api-keys`)).toBe(403)
    expect(await status('operator', 'POST', `${V1}/agents/invitations`, { name: 'db1' })).toBe(201)
    expect(await status('operator', 'POST', `${V1}/agents/invitations`, { name: 'db1', replace: true })).toBe(403)
    expect(await status('admin', 'POST', `${V1}/agents/invitations`, { name: 'db1', replace: true })).toBe(201)
  })

  test('a key for some sources sees and touches those alone', async () => {
    api = await fakeApi()
    const ask = (method: 'GET' | 'POST', url: string, body?: object) =>
      api.app.inject({ method, url, headers: as('limited'), ...(body ? { body } : {}) })
    expect((await ask('GET', `${V1}/backups`)).json().items.map((one: { id: string }) => one.id)).toEqual([BACKUP])
    expect((await ask('GET', `${V1}/backups/${BACKUP}`)).statusCode).toBe(200)
    expect((await ask('GET', `${V1}/backups/${OTHER_BACKUP}`)).statusCode).toBe(404)
    expect((await ask('GET', `${V1}/backups/${OTHER_BACKUP}/validate`)).statusCode).toBe(404)
    expect((await ask('POST', `${V1}/backups/${OTHER_BACKUP}/verify`)).statusCode).toBe(404)
    expect((await ask('POST', `${V1}/backups/${OTHER_BACKUP}/restore`, { target: 'db1/app' })).statusCode).toBe(404)
    expect((await ask('POST', `${V1}/backups/${BACKUP}/restore`, { target: 'db2/app' })).statusCode).toBe(403)
    expect((await ask('POST', `${V1}/backups/${BACKUP}/restore`, { target: 'db2' })).statusCode).toBe(403)
    expect((await ask('POST', `${V1}/backups/${BACKUP}/restore`, { target: 'db1/x', via: 'db2/y' })).statusCode).toBe(403)
    expect((await ask('POST', `${V1}/backups`, { sources: ['db1/app', 'db2/other'] })).statusCode).toBe(403)
    expect((await ask('GET', `${V1}/agents`)).statusCode).toBe(403)
    expect(api.operations.calls.filter(([name]) => name.startsWith('start'))).toEqual([])
  })

  test("a restore's target may be a host alone: the source's own name there", async () => {
    api = await fakeApi()
    const ask = (body: object) =>
      api.app.inject({ method: 'POST', url: `${V1}/backups/${BACKUP}/restore`, headers: as('operator'), body })
    expect((await ask({ target: 'db2' })).json()).toMatchObject({ target: 'db2/app' })
    expect((await ask({ target: 'db2/copy' })).json()).toMatchObject({ target: 'db2/copy' })
    for (const target of ['', 'db2/', '/app', 'a/b/c', 'DB2', '-x']) expect((await ask({ target })).statusCode).toBe(400)
  })

  test('a job is hidden from a key when it reads or writes another source', async () => {
    for (const hidden of [job({ source: 'db2/x' }), job({ target: 'db2/x' }), job({ source: null })]) {
      api = await fakeApi({ getJob: async () => hidden })
      for (const end of ['', '/logs', '/events']) {
        expect((await api.app.inject({ url: `${V1}/jobs/${JOB}${end}`, headers: as('limited') })).statusCode).toBe(404)
      }
      await api.app.close()
    }
    api = await fakeApi()
    expect((await api.app.inject({ url: `${V1}/jobs/${JOB}`, headers: as('limited') })).statusCode).toBe(200)
  })

  test('more calls than the row allows are refused, and wrong keys sooner', async () => {
    api = await fakeApi()
    const answers = []
    for (let i = 0; i < 31; i++)
      answers.push(await api.app.inject({ method: 'POST', url: `${V1}/system/test`, headers: as('admin') }))
    expect(answers.map((one) => one.statusCode)).toEqual([...Array(30).fill(200), 429])
    expect(answers[30]?.json()).toMatchObject({ code: 'rate_limited', retry: true })
    expect((await api.app.inject({ method: 'POST', url: `${V1}/system/test`, headers: as('operator') })).statusCode).toBe(200)
    const refused = []
    for (let i = 0; i < 31; i++) refused.push((await api.app.inject(`${V1}/status`)).statusCode)
    expect(refused).toEqual([...Array(30).fill(401), 429])
  })

  test('calls above the role are limited like wrong keys: each stands in the audit trail', async () => {
    api = await fakeApi()
    const refused = []
    for (let i = 0; i < 31; i++) refused.push((await api.app.inject({ url: `${V1}/api-keys`, headers: as('viewer') })).statusCode)
    expect(refused).toEqual([...Array(30).fill(403), 429])
    expect(api.audit).toHaveLength(30)
    expect((await api.app.inject({ url: `${V1}/status`, headers: as('viewer') })).statusCode).toBe(200)
  })
})

describe('what is asked', () => {
  test('a backup of one source answers with its job, of several with a list', async () => {
    api = await fakeApi()
    const ask = (body: object) => api.app.inject({ method: 'POST', url: `${V1}/backups`, headers: as('operator'), body })
    const one = await ask({ type: 'incremental', sources: ['db1/app'], description: 'before upgrade', tenant_id: 't' })
    expect(one.statusCode).toBe(202)
    expect(one.json()).toMatchObject({ id: JOB, status: 'queued', source: 'db1/app' })
    expect(one.headers.location).toBe(`${V1}/jobs/${JOB}`)
    expect(api.operations.calls[0]).toEqual([
      'startBackup',
      {
        type: 'incremental',
        sources: ['db1/app'],
        description: 'before upgrade',
        tenant_id: 't',
        all: false,
        dataset_ids: [],
        dry_run: false,
      },
    ])
    const two = await ask({ sources: ['db1/app', 'db1/b'] })
    expect(two.json()).toMatchObject({ items: [{ source: 'db1/app' }, { source: 'db1/b' }], next_cursor: null })
    expect((await ask({ all: true })).json().items).toHaveLength(1)
  })

  test.each([
    { type: 'snapshot' },
    { sources: [] },
    { sources: ['db1'] },
    { sources: ['db1/app', 'db1/app'] },
    { sources: ['../x'] },
    { sources: 'db1/app' },
    { sources: ['db1/app'], all: true },
    { sources: ['db1/app', 'db1/b'], dataset_ids: ['t'] },
    { unknown: 1 },
    { description: 'x'.repeat(501) },
    { description: 'a\nb' },
    { description: 'a\u0000b' },
    { dataset_ids: ['a\u0000'] },
    { dataset_ids: ['a\ud800'] },
    { dataset_ids: ['a'], '\ud800': 1 },
    { dataset_ids: [''] },
    [],
    null,
    'text',
  ])('a body that is wrong is refused with what is wrong: %j', async (body) => {
    api = await fakeApi()
    const answer = await api.app.inject({
      method: 'POST',
      url: `${V1}/backups`,
      headers: { ...as('operator'), 'content-type': 'application/json' },
      payload: JSON.stringify(body),
    })
    expect(answer.statusCode).toBe(400)
    expect(answer.headers['content-type']).toMatch(/^application\/problem\+json/)
    expect(answer.json()).toMatchObject({
      code: 'invalid_argument',
      title: 'Bad Request',
      detail: expect.stringMatching(/body/i),
    })
    expect(api.operations.calls).toEqual([])
  })

  test.each([
    ['{"a":', 400],
    ['{"__proto__":{"x":1}}', 400],
    [`{"description":"${'x'.repeat(1_100_000)}"}`, 413],
    [`${'['.repeat(50)}${']'.repeat(50)}`, 400],
  ])('a body that is no JSON of ours is refused: %.20s', async (payload, status) => {
    api = await fakeApi()
    const headers = { ...as('admin'), 'content-type': 'application/json' }
    expect((await api.app.inject({ method: 'PUT', url: `${V1}/fleet`, headers, payload })).statusCode).toBe(status)
  })

  test.each([{}, { risk_accepted: false }, { risk_accepted: 'yes' }])('a lost job is not forced by %j', async (body) => {
    api = await fakeApi()
    const ask = (payload: object) =>
      api.app.inject({ method: 'POST', url: `${V1}/jobs/${JOB}/force`, headers: as('operator'), payload })
    expect((await ask(body)).statusCode).toBe(400)
    expect(api.operations.calls.map(([name]) => name)).not.toContain('forceJob')
    expect((await ask({ risk_accepted: true })).statusCode).toBe(202)
  })

  test('another media type is refused', async () => {
    api = await fakeApi()
    const headers = { ...as('operator'), 'content-type': 'text/plain' }
    const answer = await api.app.inject({ method: 'POST', url: `${V1}/backups`, headers, payload: 'x' })
    expect(answer.statusCode).toBe(415)
    expect(answer.json().status).toBe(415)
  })

  test.each([
    '/backups?limit=0',
    '/backups?limit=501',
    '/backups?limit=1&limit=2',
    '/backups?limit=abc',
    '/backups?limit=1e999',
    '/backups?cursor=%00',
    '/backups?id=%25',
    '/backups?source=x',
    '/backups?unknown=1',
    '/backups/..%2f..%2fetc',
    '/backups/20261121T020000Z-k7q2m4x9t%00',
    `/backups/${'x'.repeat(150)}`,
    '/jobs/j0123',
    "/jobs/'; drop table jobs --",
  ])('a query or id out of bounds is refused: %s', async (path) => {
    api = await fakeApi()
    const answer = await api.app.inject({ url: `${V1}${path}`, headers: as('viewer') })
    expect(answer.statusCode).toBe(400)
    expect(answer.json().code).toBe('invalid_argument')
    expect(api.operations.calls).toEqual([])
  })

  test('limit and cursor reach the list, and its next cursor comes back', async () => {
    api = await fakeApi()
    const first = await api.app.inject({ url: `${V1}/backups?limit=2`, headers: as('viewer') })
    const { next_cursor } = first.json()
    await api.app.inject({ url: `${V1}/backups?limit=2&cursor=${next_cursor}`, headers: as('viewer') })
    expect(api.operations.calls.map(([, , page]) => page)).toEqual([{ limit: 2 }, { limit: 2, cursor: 'next' }])
  })

  test('validate answers at once, or with the job that does it', async () => {
    api = await fakeApi()
    const now = await api.app.inject({ url: `${V1}/backups/${BACKUP}/validate`, headers: as('viewer') })
    expect([now.statusCode, now.json()]).toEqual([200, { valid: true, errors: [], details: [], not_checked: [] }])
    await api.app.close()
    api = await fakeApi({ validateBackup: async () => ({ job: job({ kind: 'validate' }) }) })
    const later = await api.app.inject({ url: `${V1}/backups/${BACKUP}/validate`, headers: as('viewer') })
    expect([later.statusCode, later.json().kind]).toEqual([202, 'validate'])
  })
})

describe('what is answered', () => {
  test('an error of ours is a problem with its code, status and hint', async () => {
    api = await fakeApi({
      startRestore: async () => {
        throw new HoldfastError('source_exists', 'db2/app_copy exists', { hint: 'Say overwrite_existing to replace it.' })
      },
    })
    const answer = await api.app.inject({
      method: 'POST',
      url: `${V1}/backups/${BACKUP}/restore`,
      headers: as('operator'),
      body: {},
    })
    expect(answer.statusCode).toBe(409)
    expect(answer.json()).toEqual({
      type: 'urn:holdfast:error:source_exists',
      title: 'Conflict',
      status: 409,
      detail: 'db2/app_copy exists',
      code: 'source_exists',
      hint: 'Say overwrite_existing to replace it.',
      retry: false,
      instance: `${V1}/backups/${BACKUP}/restore`,
    })
  })

  test('the text of an unforeseen error stays inside', async () => {
    api = await fakeApi({
      status: async () => {
        throw new Error('password=hunter2')
      },
    })
    const answer = await api.app.inject({ url: `${V1}/status`, headers: as('viewer') })
    expect(answer.statusCode).toBe(500)
    expect(answer.body).not.toContain('hunter2')
    expect(answer.json()).toMatchObject({ code: 'internal', detail: 'the control plane failed' })
  })

  test('not ready is a 503 that names what is missing', async () => {
    const ready = async () => {
      throw new HoldfastError('catalog_unreachable', 'the catalog cannot be reached')
    }
    api = await fakeApi({}, { ready })
    expect((await api.app.inject('/healthz')).statusCode).toBe(200)
    const answer = await api.app.inject('/readyz')
    expect([answer.statusCode, answer.json().code]).toEqual([503, 'catalog_unreachable'])
  })

  test('metrics are for anyone only where that was decided', async () => {
    api = await fakeApi({}, { whoScrapes: 'viewer' })
    expect((await api.app.inject('/metrics')).statusCode).toBe(401)
    const answer = await api.app.inject({ url: '/metrics', headers: as('viewer') })
    expect([answer.statusCode, answer.body]).toEqual([200, '# nothing\n'])
    expect(answer.headers['content-type']).toContain('version=0.0.4')
  })

  test('an unknown route and a URL that cannot be decoded are problems', async () => {
    api = await fakeApi()
    expect((await api.app.inject('/nothing')).json()).toMatchObject({ status: 404, code: 'not_found' })
    expect((await api.app.inject({ method: 'POST', url: '/healthz' })).statusCode).toBe(404)
    const answer = await api.app.inject({ url: `${V1}/backups/%E0%A4%A`, headers: as('viewer') })
    expect(answer.statusCode).toBe(400)
    expect(answer.headers['content-type']).toMatch(/^application\/problem\+json/)
  })

  test('what is not HTTP, or has headers too large, gets a problem and the connection is closed', async () => {
    api = await fakeApi()
    await api.app.listen({ host: '127.0.0.1', port: 0 })
    const { port } = api.app.server.address() as { port: number }
    expect(await raw(port, `GET / HTTP/1.1\r\nhost: x\r\nx: ${'y'.repeat(20_000)}\r\n\r\n`)).toMatch(
      /^HTTP\/1.1 431 .*"status":431/s,
    )
    expect(await raw(port, 'GET /\u0000 HTTP/1.1\r\n\r\n')).toMatch(/^HTTP\/1.1 400 .*problem\+json/s)
    expect(await raw(port, 'nonsense\r\n\r\n')).toMatch(/^HTTP\/1.1 400 /)
    expect(await raw(port, 'GET /docs/ HTTP/1.1\r\nhost: %%\r\nconnection: close\r\n\r\n')).toMatch(/^HTTP\/1.1 400 /)
  })
})

function raw(port: number, request: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let answer = ''
    const socket = connect(port, '127.0.0.1', () => socket.write(request))
    socket.setEncoding('utf8')
    socket.on('data', (text: string) => (answer += text))
    socket.on('close', () => resolve(answer))
    socket.on('error', reject)
  })
}
