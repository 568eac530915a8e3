import { afterEach, describe, expect, test } from 'vitest'
import { HoldfastError } from '../../shared/errors.ts'
import { type FakeApi, fakeApi } from '../api/testing/fake-api.ts'
import { BACKUP, type FakeOperations, job } from '../api/testing/fake-operations.ts'
import { run } from './testing.ts'

let api: FakeApi | undefined
let url = ''
afterEach(async () => {
  await api?.app.close()
  api = undefined
})

async function serve(over: Partial<FakeOperations> = {}): Promise<void> {
  api = await fakeApi(over)
  url = await api.app.listen({ host: '127.0.0.1', port: 0 })
}

/** Backups and jobs that end as told. */
const ending = (status: 'succeeded' | 'failed', over: object = {}): Partial<FakeOperations> => ({
  getJob: async () => job({ status, finished_at: '2026-11-21T02:01:00.000Z', ...over }),
  events: async function* () {
    yield { id: 1, type: 'state', at: '2026-11-21T02:01:00.000Z', attempt: 1, data: { state: status, error: null } }
  },
})

describe('restore', () => {
  const request = () => api?.operations.calls.findLast(([name]) => name === 'startRestore')?.[2]

  test('every spelling reaches the API', async () => {
    await serve(ending('succeeded'))
    await run(url, [
      'restore',
      BACKUP,
      '--to',
      'db2/copy',
      '--via',
      'db2/app',
      '--map',
      'a=b',
      '--dataset-mapping',
      '{"c":"d=e"}',
    ])
    expect(request()).toMatchObject({ target: 'db2/copy', via: 'db2/app', dataset_mapping: { a: 'b', c: 'd=e' }, dry_run: false })
    await run(url, [
      'restore',
      BACKUP,
      '--target-tenant',
      't',
      '--no-verify',
      '--part',
      'x',
      '--part',
      'y',
      '--overwrite',
      '--yes',
    ])
    expect(request()).toMatchObject({
      target_tenant: 't',
      verify_integrity: false,
      dataset_ids: ['x', 'y'],
      overwrite_existing: true,
    })
    await run(url, ['restore', BACKUP, '--to', 'db2'])
    expect(request()).toMatchObject({ target: 'db2/app' })
    expect((await run(url, ['restore', BACKUP, '--map', 'x'])).status).toBe(2)
    expect((await run(url, ['restore', BACKUP, '--dataset-mapping', '[1]'])).status).toBe(2)
  })

  const preview = { creates: [], replaces: [{ what: 'database app', size_bytes: 5_000_000 }], bytes: 10, findings: [] }
  const detail = { plan_only: true, preview, written_bytes: 0, target: 'db1/app', checked: false }

  test('--plan shows what would happen and does nothing else', async () => {
    await serve(ending('succeeded', { kind: 'restore', detail }))
    const answer = await run(url, ['restore', BACKUP, '--plan'])
    expect(answer.out).toContain('replaces  database app  (5.0 MB there now are lost)')
    expect(answer.out).toContain('only a plan: nothing was changed')
    expect(answer.out).toContain('into      db1/app')
    expect(answer.out).toMatch(/^takes {5}about as long as the backup did: \d/m)
    expect(
      api?.operations.calls
        .filter(([name]) => name === 'startRestore')
        .map(([, , body]) => (body as { dry_run: boolean }).dry_run),
    ).toEqual([true])
  })

  test('overwriting asks on a terminal, after it has shown what is lost', async () => {
    await serve(ending('succeeded', { kind: 'restore', detail }))
    const no = await run(url, ['restore', BACKUP, '--overwrite'], { answer: 'n' })
    expect([no.status, no.asked.length]).toEqual([1, 1])
    expect(no.err).toContain('database app')
    expect(request()).toMatchObject({ dry_run: true })
    expect((await run(url, ['restore', BACKUP, '--overwrite'], { answer: 'y' })).status).toBe(0)
    expect(request()).toMatchObject({ dry_run: false, overwrite_existing: true })
  })

  const finding = { code: 'source_exists', severity: 'error', message: 'database app exists', hint: 'Say --overwrite.' }
  const refused = { ...detail, preview: { ...preview, findings: [{ ...finding, severity: 'warning' }, finding] } }

  test('--plan ends with 1 when the restore would be refused, with 5 when the host does not allow it', async () => {
    await serve(ending('succeeded', { kind: 'restore', detail: refused }))
    const answer = await run(url, ['restore', BACKUP, '--plan'])
    expect(answer).toMatchObject({ status: 1, out: expect.stringContaining('as things are, the restore would be refused') })
    expect(answer.out).toContain('error: database app exists')
    expect((await run(url, ['restore', BACKUP, '--plan', '--format', 'json'])).status).toBe(1)
    const warned = { ...refused, preview: { ...preview, findings: [{ ...finding, severity: 'warning' }] } }
    await serve(ending('succeeded', { kind: 'restore', detail: warned }))
    expect((await run(url, ['restore', BACKUP, '--plan'])).status).toBe(0)
    const error = { code: 'restore_not_allowed', message: 'db2 does not accept', hint: null }
    await serve(ending('failed', { kind: 'restore', error }))
    expect((await run(url, ['restore', BACKUP, '--plan'])).status).toBe(5)
  })

  test('nobody is asked about a restore that would be refused', async () => {
    await serve(ending('succeeded', { kind: 'restore', detail: refused }))
    const answer = await run(url, ['restore', BACKUP, '--overwrite'], { answer: 'y' })
    expect([answer.status, answer.asked]).toEqual([1, []])
    expect(request()).toMatchObject({ dry_run: true })
  })

  test('overwriting where nobody can be asked needs --yes', async () => {
    await serve()
    expect(await run(url, ['restore', BACKUP, '--overwrite'])).toMatchObject({ status: 2, err: expect.stringContaining('--yes') })
    expect(request()).toBeUndefined()
  })

  test('a refusal is told with its hint', async () => {
    await serve({
      startRestore: async () => {
        throw new HoldfastError('source_exists', 'db1/app exists', { hint: 'Say --overwrite.' })
      },
    })
    expect(await run(url, ['restore', BACKUP])).toMatchObject({ status: 1, err: 'holdfast: db1/app exists\nSay --overwrite.\n' })
  })
})
