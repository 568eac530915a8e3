import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { NewApiKeyView } from '../../control-plane/api/schemas/access.ts'
import type { BackupView } from '../../control-plane/api/schemas/backups.ts'
import { type Clock, systemClock } from '../../shared/clock.ts'
import { recordingLog } from '../harness/fleet.ts'
import { TestHoldfast } from '../harness/holdfast.ts'
import { Operator } from '../harness/operator.ts'

/** What the API does not do, asked of the whole control plane; and what nobody reads in its logs. */

const PASSWORD = 'Tr0ub4dor-of-the-shop'

let holdfast: TestHoldfast
let aheadMs = 0
let lines: Array<Record<string, unknown>>
let backup: BackupView
const operators = new Map<string, Operator>()
const given: string[] = []
const clock: Clock = { ...systemClock, now: () => new Date(systemClock.now().getTime() + aheadMs) }

beforeAll(async () => {
  holdfast = await TestHoldfast.start({ clock })
  await holdfast.stopServer()
  const recording = recordingLog()
  lines = recording.lines
  await holdfast.startServer({ log: recording.log })
  const sources: Record<string, Record<string, unknown>> = {}
  for (const name of ['tree', 'other']) {
    const folder = path.join(holdfast.folder.path, 'data', name)
    await mkdir(folder, { recursive: true })
    await writeFile(path.join(folder, 'file'), name)
    sources[name] = { engine: 'files', path: folder }
  }
  const url = path.join(holdfast.folder.path, 'shop.url')
  // nothing listens there: every attempt fails, and says so
  await writeFile(url, `postgres://shop:${PASSWORD}@127.0.0.1:1/shop`, { mode: 0o600 })
  sources.shop = { engine: 'postgres', url_file: url }
  await holdfast.addAgent('db1', { sources, log_level: 'debug' })
  backup = await holdfast.operator.backUp('db1/tree', 'full')
  operators.set('admin', holdfast.operator)
  for (const role of ['viewer', 'operator']) await addKey(role, { role })
  await addKey('limited', { role: 'operator', sources: ['db1/oth*'] })
  await addKey('expired', { role: 'admin', valid_seconds: 60 })
  const revoked = await addKey('revoked', { role: 'admin' })
  await holdfast.operator.ask('DELETE', `/api/v1/api-keys/${revoked.id}`)
  operators.set('wrong', new Operator(holdfast.server.apiUrl, 'hfk_00000000000000000000000000000000'))
})

afterAll(() => holdfast?.[Symbol.asyncDispose]())

async function addKey(name: string, body: object): Promise<NewApiKeyView> {
  const made = await holdfast.operator.ask<NewApiKeyView>('POST', '/api/v1/api-keys', { name, ...body })
  given.push(made.key)
  operators.set(name, new Operator(holdfast.server.apiUrl, made.key))
  return made
}

async function refused(who: string, method: string, route: string, body: unknown, status: number, code: string): Promise<void> {
  const answer = await (operators.get(who) as Operator).call(method, route, body)
  const problem = {
    status,
    code,
    type: `urn:holdfast:error:${code}`,
    detail: expect.any(String),
    hint: expect.stringMatching(/\.$/),
  }
  expect(answer, `${who} ${method} ${route}`).toMatchObject({ status, body: problem })
}

describe('keys', () => {
  it.each(['wrong', 'revoked', 'expired'])('a %s one is refused, whatever it asks', async (who) => {
    aheadMs = who === 'expired' ? 61_000 : 0
    try {
      await refused(who, 'GET', '/api/v1/status', undefined, 401, 'unauthenticated')
      await refused(who, 'POST', '/api/v1/backups', { sources: ['db1/tree'] }, 401, 'unauthenticated')
      await refused(who, 'GET', '/api/v1/backups/nothing', undefined, 401, 'unauthenticated')
    } finally {
      aheadMs = 0
    }
  })

  it('none, another scheme, or one in the address is refused', async () => {
    const { url, key } = holdfast.operator
    const bare = async (route: string, headers: Record<string, string> = {}) => {
      const answer = await fetch(`${url}${route}`, { headers })
      expect(answer.headers.get('content-type')).toContain('application/problem+json')
      expect(answer.headers.get('www-authenticate')).toContain('ApiKey')
      return [answer.status, ((await answer.json()) as { code: string }).code]
    }
    const unknown = [401, 'unauthenticated']
    expect(await bare('/api/v1/status')).toEqual(unknown)
    for (const authorization of [`Basic ${key}`, `Bearer${key}`, 'ApiKey', `ApiKey ${key} ${key}`, `ApiKey ${key.slice(0, -1)}`])
      expect(await bare('/api/v1/status', { authorization }), authorization.slice(0, 10)).toEqual(unknown)
    expect(await bare(`/api/v1/status?api_key=${key}`)).toEqual(unknown)
  })
})

describe('roles and selectors', () => {
  it.each<[string, string, string, unknown]>([
    ['viewer', 'POST', '/api/v1/backups', { sources: ['db1/tree'] }],
    ['viewer', 'POST', '/api/v1/backups/:id/restore', {}],
    ['viewer', 'POST', '/api/v1/backups/:id/verify', {}],
    ['viewer', 'PUT', '/api/v1/backups/:id/pin', undefined],
    ['viewer', 'GET', '/api/v1/audit', undefined],
    ['operator', 'DELETE', '/api/v1/backups/:id', undefined],
    ['operator', 'POST', '/api/v1/api-keys', { name: 'more', role: 'admin' }],
    ['operator', 'POST', '/api/v1/agents/db1/revoke', {}],
    ['operator', 'PUT', '/api/v1/fleet', {}],
    ['operator', 'POST', '/api/v1/keys/recovery', {}],
    ['limited', 'GET', '/api/v1/agents', undefined],
    ['limited', 'POST', '/api/v1/agents/invitations', { name: 'db9' }],
    ['limited', 'GET', '/api/v1/targets', undefined],
  ])('%s may not %s %s', async (who, method, route, body) => {
    await refused(who, method, route.replace(':id', backup.id), body, 403, 'forbidden')
  })

  it('a key for some sources neither sees, nor names, nor restores over others', async () => {
    const limited = operators.get('limited') as Operator
    expect(await limited.ask('GET', '/api/v1/backups')).toMatchObject({ items: [] })
    for (const [method, route, body] of [
      ['GET', `/api/v1/backups/${backup.id}`, undefined],
      ['GET', `/api/v1/jobs/${backup.job_id}`, undefined],
      ['POST', `/api/v1/backups/${backup.id}/restore`, { target: 'db1/other' }],
      ['POST', `/api/v1/backups/${backup.id}/verify`, {}],
    ] as const) {
      const { status } = await limited.call(method, route, body)
      expect([403, 404], `${method} ${route}`).toContain(status)
    }
    expect([403, 404]).toContain((await limited.call('POST', '/api/v1/backups', { sources: ['db1/tree'] })).status)
    const own = await limited.backUp('db1/other', 'full')
    // its own backup over another's place
    const over = await limited.call('POST', `/api/v1/backups/${own.id}/restore`, { target: 'db1/tree', overwrite_existing: true })
    expect([403, 404]).toContain(over.status)
    expect(await limited.call('POST', '/api/v1/backups', { all: true })).toMatchObject({ status: 202 })
    const { items } = await holdfast.operator.ask<{ items: BackupView[] }>('GET', '/api/v1/backups?source=db1/tree')
    expect(items.map(({ id }) => id)).toEqual([backup.id])
  })
})

describe('bodies, sizes and ids', () => {
  it.each<[string, string, number, string, unknown]>([
    ['POST', '/api/v1/backups', 400, 'invalid_argument', { sources: ['db1/tree'], type: 'everything' }],
    ['POST', '/api/v1/backups', 400, 'invalid_argument', { sources: 'db1/tree' }],
    ['POST', '/api/v1/backups', 400, 'invalid_argument', { sources: ['db1/tree'], all: true }],
    ['POST', '/api/v1/backups', 400, 'invalid_argument', { sources: ['db1/tree', 'db1/tree'] }],
    ['POST', '/api/v1/backups', 400, 'invalid_argument', { sources: ['db1/tree'], force: true }],
    ['POST', '/api/v1/backups', 404, 'not_found', { sources: ['db1/nothing'] }],
    ['POST', '/api/v1/backups', 422, 'not_supported', { sources: ['db1/tree'], tenant_id: 'one' }],
    ['POST', '/api/v1/backups', 400, 'invalid_argument', { sources: ['db1/tree'], description: 'x'.repeat(501) }],
    ['POST', '/api/v1/backups', 413, 'too_large', { description: 'x'.repeat(3_000_000) }],
    ['GET', '/api/v1/backups/20200101T000000Z-0123456789', 404, 'not_found', undefined],
    ['GET', '/api/v1/backups/1', 400, 'invalid_argument', undefined],
    ['GET', '/api/v1/jobs/j0123456789abcde', 404, 'not_found', undefined],
    ['GET', '/api/v1/jobs/0', 400, 'invalid_argument', undefined],
    ['GET', '/api/v1/backups?limit=501', 400, 'invalid_argument', undefined],
    ['GET', '/api/v1/backups?limit=-1', 400, 'invalid_argument', undefined],
    ['GET', '/api/v1/backups?cursor=nonsense', 400, 'invalid_argument', undefined],
    ['GET', '/api/v1/nothing', 404, 'not_found', undefined],
    ['POST', '/api/v1/agents/nobody/revoke', 404, 'not_found', {}],
    ['POST', '/api/v1/agents/nobody/discover', 404, 'not_found', undefined],
    ['DELETE', '/api/v1/api-keys/k00000000000', 404, 'not_found', undefined],
    ['POST', '/api/v1/keys/recovery', 400, 'invalid_argument', { recipient: 'age1nothing' }],
    ['PUT', '/api/v1/fleet', 400, 'invalid_config', { policies: 7 }],
  ])('%s %s: %i %s', async (method, route, status, code, body) => {
    await refused('admin', method, route, body, status, code)
  })

  it('what is no JSON, or says that it is something else, is refused', async () => {
    const post = async (body: string, type: string) => {
      const headers = { authorization: `ApiKey ${holdfast.operator.key}`, 'content-type': type }
      const answer = await fetch(`${holdfast.operator.url}/api/v1/backups`, { method: 'POST', headers, body })
      return [answer.status, ((await answer.json()) as { code: string }).code]
    }
    expect(await post('{"sources":', 'application/json')).toEqual([400, 'invalid_argument'])
    expect(await post('[]', 'application/json')).toEqual([400, 'invalid_argument'])
    expect(await post('{}', 'text/plain')).toEqual([415, 'invalid_argument'])
    expect(await post('{"__proto__":{"role":"admin"},"sources":["db1/tree"]}', 'application/json')).toEqual([
      400,
      'invalid_argument',
    ])
  })
})

describe('secrets', () => {
  it('stand in no log, no audit entry, no job and no error: of neither program', async () => {
    const { token } = await holdfast.operator.ask<{ token: string }>('POST', '/api/v1/agents/invitations', {
      name: 'db9',
      valid_seconds: 900,
    })
    const job = await holdfast.operator.over(await holdfast.operator.startBackup('db1/shop', 'full'), 200_000)
    expect(job).toMatchObject({ status: 'failed' })
    const logs = await holdfast.operator.ask('GET', `/api/v1/jobs/${job.id}/logs?limit=500`)
    const audit = await holdfast.operator.ask<{ items: unknown[] }>('GET', '/api/v1/audit?limit=500')
    const agent = holdfast.agents.get('db1')?.process.output() ?? ''
    const texts = { server: JSON.stringify(lines), agent, job: JSON.stringify([job, logs]), audit: JSON.stringify(audit) }
    expect(lines.length).toBeGreaterThan(20)
    expect(audit.items.length).toBeGreaterThan(20)
    expect(agent).toContain('connected to the control plane')
    const secrets = { token, password: PASSWORD, admin: holdfast.operator.key, identity: holdfast.server.fleet.identity.reveal() }
    for (const [where, text] of Object.entries(texts))
      for (const [what, secret] of [...Object.entries(secrets), ...given.entries()])
        expect(text.includes(secret), `${what} in ${where}`).toBe(false)
  })

  it('what was refused stands in the audit trail, with who and why', async () => {
    const { items } = await holdfast.operator.ask<{ items: Array<{ actor: string; outcome: string }> }>(
      'GET',
      '/api/v1/audit?limit=500',
    )
    const actors = items.filter(({ outcome }) => outcome === 'refused').map(({ actor }) => actor)
    expect(actors).toEqual(expect.arrayContaining(['key:viewer', 'key:operator', 'key:limited']))
  })
})
