import { writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import path from 'node:path'
import type { Command } from 'commander'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { KEYS } from '../api/testing/fake-api.ts'
import { BACKUP, backup, job } from '../api/testing/fake-operations.ts'
import { serverCommand } from '../server/command.ts'
import type { Io } from './io.ts'
import { createProgram } from './program.ts'
import { ending, run, Served } from './testing.ts'

let served: Served
beforeEach(() => {
  served = new Served()
})
afterEach(() => served.close())

describe('the command line itself', () => {
  test('its help is the pinned one (a change is seen in review)', async () => {
    const program = createProgram({ io: {} as Io, version: '0.1.0', finish: () => undefined })
    const texts = (command: Command): string[] => [
      command.configureHelp({ helpWidth: 100 }).helpInformation(),
      ...command.commands.flatMap(texts),
    ]
    const server = serverCommand('0.1.0', async () => undefined)
    await expect([...texts(program), ...texts(server)].join('\n---\n\n')).toMatchFileSnapshot('help.txt')
  })

  test.each([
    [['nonsense']],
    [['list', '--nonsense']],
    [['list', '--limit', 'x']],
    [['create', '--type', 'x']],
    [['show']],
    [[]],
  ])('wrong use ends with 2: %j', async (args) => {
    expect((await run('http://127.0.0.1:9', args)).status).toBe(2)
  })

  test('help and version end with 0', async () => {
    expect(await run(null, ['--help'])).toMatchObject({ status: 0, out: expect.stringContaining('holdfast') })
    expect(await run(null, ['--version'])).toMatchObject({ status: 0, out: '0.1.0\n' })
  })

  test('a control plane that does not answer ends with 6, as JSON with one document', async () => {
    const answer = await run('http://127.0.0.1:9', ['list', '--format', 'json'])
    expect(answer.status).toBe(6)
    expect(JSON.parse(answer.out)).toMatchObject({ code: 'server_unreachable' })
    expect(answer.err).toContain('cannot be reached')
  })

  test('something else that answers there is said to be no control plane', async () => {
    const other = createServer((_request, answer) => answer.end('<html>')).listen(0, '127.0.0.1')
    await new Promise((resolve) => other.once('listening', resolve))
    const answer = await run(`http://127.0.0.1:${(other.address() as AddressInfo).port}`, ['list'])
    other.close()
    expect([answer.status, answer.err]).toEqual([6, expect.stringContaining('is not a Holdfast control plane')])
  })

  test('not found ends with 4, not allowed with 5, each with what to do', async () => {
    await served.start()
    expect(await run(served.url, ['show', '20261121T020000Z-0000000000'])).toMatchObject({
      status: 4,
      err: expect.stringContaining('does not exist'),
    })
    const refused = await run(served.url, ['api-keys', 'list', '--api-key', KEYS.viewer])
    expect([refused.status, refused.err]).toEqual([5, expect.stringContaining('an administrator makes one')])
    expect((await run(served.url, ['list', '--api-key', `hfk_${'z'.repeat(26)}`])).status).toBe(5)
  })

  test('--format json is one document on standard output: the answer of the API itself', async () => {
    await served.start()
    const answer = await run(served.url, ['list', '--format', 'json'])
    const direct = await served.api?.app.inject({ url: '/api/v1/backups', headers: { authorization: `ApiKey ${KEYS.admin}` } })
    expect(JSON.parse(answer.out)).toEqual(direct?.json())
    const problem = await run(served.url, ['show', '20261121T020000Z-0000000000', '--format=json'])
    expect(JSON.parse(problem.out)).toMatchObject({ code: 'not_found' })
    const invitation = await run(served.url, ['agents', 'invite', 'db1', '--format', 'json'])
    expect(JSON.parse(invitation.out)).toMatchObject({ name: 'db1', token: 'hft_secret' })
  })

  test('text of the server cannot drive the terminal', async () => {
    const hostile = 'x\u001b]0;owned\u0007\u009b31m\u202egpj'
    await served.start({ getBackup: async () => backup({ description: hostile }) })
    for (const format of ['table', 'json']) {
      const { out } = await run(served.url, ['show', BACKUP, '--format', format], { terminal: true })
      expect(out).toContain('\\u001b]0;owned\\u0007\\u009b31m\\u202egpj')
      expect(out).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/)
      if (format === 'json') expect(JSON.parse(out).description).toBe(hostile)
    }
  })
})

describe('finding the control plane', () => {
  const home = async (content: Record<string, string>) => {
    for (const [name, text] of Object.entries(content)) await writeFile(path.join(served.folder, name), text)
  }

  test('by HOLDFAST_HOME, with the key that lies there', async () => {
    await served.start()
    await home({ 'server.json': JSON.stringify({ url: served.url }), 'admin.key': `${KEYS.admin}\n` })
    expect((await run(null, ['list'], { environment: { HOLDFAST_HOME: served.folder } })).status).toBe(0)
  })

  test('the key of a home goes to its own server only', async () => {
    await served.start()
    await home({ 'server.json': JSON.stringify({ url: 'http://127.0.0.1:9' }), 'admin.key': KEYS.admin })
    const answer = await run(null, ['list', '--url', served.url], { environment: { HOLDFAST_HOME: served.folder } })
    expect([answer.status, answer.err]).toEqual([5, expect.stringContaining('there is no API key')])
    expect(served.api?.audit).toEqual([])
  })

  test('without any it says what to give', async () => {
    const answer = await run(null, ['list'], { cwd: served.folder })
    expect([answer.status, answer.err]).toEqual([2, expect.stringContaining('HOLDFAST_URL')])
  })
})

describe('backups', () => {
  test('create waits for the end, and its status is the verdict', async () => {
    await served.start(ending('succeeded'))
    const done = await run(served.url, [
      'create',
      'db1/app',
      '--type',
      'incremental',
      '--description',
      'x',
      '--tenant-id',
      't',
      '--part',
      'a.b',
    ])
    expect([done.status, done.out]).toEqual([0, expect.stringMatching(/status +succeeded/)])
    expect(served.calls[0]?.[1]).toMatchObject({
      type: 'incremental',
      sources: ['db1/app'],
      description: 'x',
      tenant_id: 't',
      dataset_ids: ['a.b'],
    })
    await served.close()
    await served.start(ending('failed', { error: { code: 'source_denied', message: 'no rights', hint: 'Grant them.' } }))
    const failed = await run(served.url, ['create', 'db1/app'])
    expect([failed.status, failed.out]).toEqual([1, expect.stringContaining('Grant them.')])
  })

  test('a job that failed because it is not allowed ends with the status of a refusal', async () => {
    const error = { code: 'restore_not_allowed', message: 'db2 does not accept it', hint: 'Allow it.' }
    await served.start(ending('failed', { kind: 'restore', error }))
    expect((await run(served.url, ['restore', BACKUP, '--to', 'db2/app'])).status).toBe(5)
  })

  test('a restore says whether what it made was counted and compared', async () => {
    const preview = { creates: [], replaces: [], bytes: 10, findings: [] }
    const detail = { plan_only: false, preview, written_bytes: 10, target: 'db1/app', checked: true }
    await served.start(ending('succeeded', { kind: 'restore', detail }))
    expect((await run(served.url, ['restore', BACKUP])).out).toContain('counted and compared: it is what was backed up')
    await served.close()
    await served.start(ending('succeeded', { kind: 'restore', detail: { ...detail, checked: false } }))
    expect((await run(served.url, ['restore', BACKUP])).out).toContain('not counted and compared')
    await served.close()
    const found = { ...detail, read_bytes: 1_000_000, skipped_bytes: 5_000_000 }
    await served.start(ending('succeeded', { kind: 'restore', detail: found }))
    expect((await run(served.url, ['restore', BACKUP])).out).toContain('found     5.0 MB in place, fetched 1.0 MB')
  })

  test('of several some succeeded: done in part', async () => {
    const ids = ['j000000000000001', 'j000000000000002']
    await served.start({
      startBackup: async () => ids.map((id) => job({ id })),
      listJobs: async () => ({
        items: [job({ id: ids[0], status: 'succeeded' }), job({ id: ids[1], status: 'failed' })],
        next_cursor: null,
      }),
    })
    const answer = await run(served.url, ['create', '--all', '--format', 'json'])
    expect(answer.status).toBe(3)
    expect(JSON.parse(answer.out).items.map((one: { status: string }) => one.status)).toEqual(['succeeded', 'failed'])
  })

  test('--no-wait returns with what was accepted', async () => {
    await served.start()
    const answer = await run(served.url, ['create', 'db1/app', '--no-wait', '--format', 'json'])
    expect([answer.status, JSON.parse(answer.out).status]).toEqual([0, 'queued'])
  })

  test('--watch tells how it gets on', async () => {
    await served.start({
      ...ending('succeeded'),
      events: async function* () {
        const at = '2026-11-21T02:01:00.000Z'
        yield { id: 1, type: 'state', at, attempt: 1, data: { state: 'running' } }
        const figures = { read_bytes: 3_100_000, stored_bytes: 900_000, skipped_bytes: 0, written_bytes: 0, objects_done: 0 }
        const rest = {
          total_bytes: null,
          objects_total: null,
          chunks: 1,
          chunks_skipped: 0,
          bytes_per_second: 1e6,
          seconds_left: 65,
        }
        yield { id: null, type: 'progress', at, attempt: 1, data: { phase: 'read', ...figures, ...rest } }
        yield { id: 2, type: 'state', at, attempt: 1, data: { state: 'succeeded' } }
      },
    })
    const { err } = await run(served.url, ['create', 'db1/app', '--watch'])
    expect(err).toContain('db1/app  running read  3.1 MB read')
    expect(err).toContain('1 min 5 s left')
  })

  test('a unique beginning or ending of an id is enough, and latest:host/name is the last good one', async () => {
    const asked: unknown[] = []
    await served.start({
      listBackups: async (_by, filter) => {
        asked.push(filter)
        return {
          items: filter.id === '2026' ? [backup(), backup({ id: '20261122T020000Z-k7q2m4x9tb' })] : [backup()],
          next_cursor: null,
        }
      },
    })
    expect((await run(served.url, ['show', 'x9tb'])).out).toContain(BACKUP)
    expect(asked.at(-1)).toMatchObject({ id: 'x9tb' })
    expect(await run(served.url, ['show', '2026'])).toMatchObject({ status: 2, err: expect.stringContaining('more than one') })
    expect((await run(served.url, ['show', 'latest:db1/app'])).status).toBe(0)
    expect(asked.at(-1)).toMatchObject({ source: 'db1/app', status: 'good', limit: 1 })
  })

  test('validate ends with 1 when the backup is not valid', async () => {
    const details = [{ code: 'object_missing', object: 'packs/1', message: 'it is not there' }]
    await served.start({
      validateBackup: async () => ({
        validation: {
          not_checked: [],
          valid: false,
          errors: ['object_missing'],
          details,
        },
      }),
    })
    const answer = await run(served.url, ['validate', BACKUP])
    expect([answer.status, answer.out]).toEqual([1, expect.stringContaining('packs/1')])
  })
})
