import { afterEach, describe, expect, test } from 'vitest'
import { HoldfastError } from '../../shared/errors.ts'
import { BACKUP } from '../api/testing/fake-operations.ts'
import { ending, run, Served } from './testing.ts'

const served = new Served()
afterEach(() => served.close())

describe('restore', () => {
  const request = () => served.calls.findLast(([name]) => name === 'startRestore')?.[2]

  test('every spelling reaches the API', async () => {
    await served.start(ending('succeeded'))
    await run(served.url, [
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
    await run(served.url, [
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
    await run(served.url, ['restore', BACKUP, '--to', 'db2'])
    expect(request()).toMatchObject({ target: 'db2/app' })
    expect((await run(served.url, ['restore', BACKUP, '--map', 'x'])).status).toBe(2)
    expect((await run(served.url, ['restore', BACKUP, '--dataset-mapping', '[1]'])).status).toBe(2)
  })

  const preview = { creates: [], replaces: [{ what: 'database app', size_bytes: 5_000_000 }], bytes: 10, findings: [] }
  const detail = { plan_only: true, preview, written_bytes: 0, target: 'db1/app', checked: false }

  test('--plan shows what would happen and does nothing else', async () => {
    await served.start(ending('succeeded', { kind: 'restore', detail }))
    const answer = await run(served.url, ['restore', BACKUP, '--plan'])
    expect(answer.out).toContain('replaces  database app  (5.0 MB there now are lost)')
    expect(answer.out).toContain('only a plan: nothing was changed')
    expect(answer.out).toContain('into      db1/app')
    expect(answer.out).toMatch(/^takes {5}about as long as the backup did: \d/m)
    expect(
      served.calls.filter(([name]) => name === 'startRestore').map(([, , body]) => (body as { dry_run: boolean }).dry_run),
    ).toEqual([true])
  })

  test('overwriting asks on a terminal, after it has shown what is lost', async () => {
    await served.start(ending('succeeded', { kind: 'restore', detail }))
    const no = await run(served.url, ['restore', BACKUP, '--overwrite'], { answer: 'n' })
    expect([no.status, no.asked.length]).toEqual([1, 1])
    expect(no.err).toContain('database app')
    expect(request()).toMatchObject({ dry_run: true })
    expect((await run(served.url, ['restore', BACKUP, '--overwrite'], { answer: 'y' })).status).toBe(0)
    expect(request()).toMatchObject({ dry_run: false, overwrite_existing: true })
  })

  const finding = { code: 'source_exists', severity: 'error', message: 'database app exists', hint: 'Say --overwrite.' }
  const refused = { ...detail, preview: { ...preview, findings: [{ ...finding, severity: 'warning' }, finding] } }

  test('--plan ends with 1 when the restore would be refused, with 5 when the host does not allow it', async () => {
    await served.start(ending('succeeded', { kind: 'restore', detail: refused }))
    const answer = await run(served.url, ['restore', BACKUP, '--plan'])
    expect(answer).toMatchObject({ status: 1, out: expect.stringContaining('as things are, the restore would be refused') })
    expect(answer.out).toContain('error: database app exists')
    expect((await run(served.url, ['restore', BACKUP, '--plan', '--format', 'json'])).status).toBe(1)
    const warned = { ...refused, preview: { ...preview, findings: [{ ...finding, severity: 'warning' }] } }
    await served.start(ending('succeeded', { kind: 'restore', detail: warned }))
    expect((await run(served.url, ['restore', BACKUP, '--plan'])).status).toBe(0)
    const error = { code: 'restore_not_allowed', message: 'db2 does not accept', hint: null }
    await served.start(ending('failed', { kind: 'restore', error }))
    expect((await run(served.url, ['restore', BACKUP, '--plan'])).status).toBe(5)
  })

  test('nobody is asked about a restore that would be refused', async () => {
    await served.start(ending('succeeded', { kind: 'restore', detail: refused }))
    const answer = await run(served.url, ['restore', BACKUP, '--overwrite'], { answer: 'y' })
    expect([answer.status, answer.asked]).toEqual([1, []])
    expect(request()).toMatchObject({ dry_run: true })
  })

  test('overwriting where nobody can be asked needs --yes', async () => {
    await served.start()
    expect(await run(served.url, ['restore', BACKUP, '--overwrite'])).toMatchObject({
      status: 2,
      err: expect.stringContaining('--yes'),
    })
    expect(request()).toBeUndefined()
  })

  test('a refusal is told with its hint', async () => {
    await served.start({
      startRestore: async () => {
        throw new HoldfastError('source_exists', 'db1/app exists', { hint: 'Say --overwrite.' })
      },
    })
    expect(await run(served.url, ['restore', BACKUP])).toMatchObject({
      status: 1,
      err: 'holdfast: db1/app exists\nSay --overwrite.\n',
    })
  })
})
