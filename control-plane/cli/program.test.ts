import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import type { Command } from 'commander'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { runCommand } from '../../test/harness/commands.ts'
import { type FakeApi, fakeApi, KEYS } from '../api/testing/fake-api.ts'
import type { FakeOperations } from '../api/testing/fake-operations.ts'
import { BACKUP, backup, JOB, job } from '../api/testing/fake-operations.ts'
import { serverCommand } from '../server/command.ts'
import type { Io } from './io.ts'
import { createProgram } from './program.ts'
import { run } from './testing.ts'

let api: FakeApi | undefined
let url = ''
let folder: string
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'hf-cli-'))
})
afterEach(async () => {
  await api?.app.close()
  api = undefined
  await rm(folder, { recursive: true, force: true })
})

async function serve(over: Partial<FakeOperations> = {}): Promise<FakeApi> {
  api = await fakeApi(over)
  url = await api.app.listen({ host: '127.0.0.1', port: 0 })
  return api
}
/** Backups and jobs that end as told. */
const ending = (status: 'succeeded' | 'failed', over: object = {}): Partial<FakeOperations> => ({
  getJob: async () => job({ status, finished_at: '2026-11-21T02:01:00.000Z', ...over }),
  events: async function* () {
    yield { id: 1, type: 'state', at: '2026-11-21T02:01:00.000Z', attempt: 1, data: { state: status, error: null } }
  },
})

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
    await serve()
    expect(await run(url, ['show', '20261121T020000Z-0000000000'])).toMatchObject({
      status: 4,
      err: expect.stringContaining('does not exist'),
    })
    const refused = await run(url, ['api-keys', 'list', '--api-key', KEYS.viewer])
    expect([refused.status, refused.err]).toEqual([5, expect.stringContaining('an administrator makes one')])
    expect((await run(url, ['list', '--api-key', `hfk_${'z'.repeat(26)}`])).status).toBe(5)
  })

  test('--format json is one document on standard output: the answer of the API itself', async () => {
    await serve()
    const answer = await run(url, ['list', '--format', 'json'])
    const direct = await api?.app.inject({ url: '/api/v1/backups', headers: { authorization: `ApiKey ${KEYS.admin}` } })
    expect(JSON.parse(answer.out)).toEqual(direct?.json())
    const problem = await run(url, ['show', '20261121T020000Z-0000000000', '--format=json'])
    expect(JSON.parse(problem.out)).toMatchObject({ code: 'not_found' })
    const invitation = await run(url, ['agents', 'invite', 'db1', '--format', 'json'])
    expect(JSON.parse(invitation.out)).toMatchObject({ name: 'db1', token: 'hft_secret' })
  })

  test('text of the server cannot drive the terminal', async () => {
    const hostile = 'x\u001b]0;owned\u0007\u009b31m\u202egpj'
    await serve({ getBackup: async () => backup({ description: hostile }) })
    for (const format of ['table', 'json']) {
      const { out } = await run(url, ['show', BACKUP, '--format', format], { terminal: true })
      expect(out).toContain('\\u001b]0;owned\\u0007\\u009b31m\\u202egpj')
      expect(out).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/)
      if (format === 'json') expect(JSON.parse(out).description).toBe(hostile)
    }
  })
})

describe('finding the control plane', () => {
  const home = async (content: Record<string, string>) => {
    for (const [name, text] of Object.entries(content)) await writeFile(path.join(folder, name), text)
  }

  test('by HOLDFAST_HOME, with the key that lies there', async () => {
    await serve()
    await home({ 'server.json': JSON.stringify({ url }), 'admin.key': `${KEYS.admin}\n` })
    expect((await run(null, ['list'], { environment: { HOLDFAST_HOME: folder } })).status).toBe(0)
  })

  test('the key of a home goes to its own server only', async () => {
    await serve()
    await home({ 'server.json': JSON.stringify({ url: 'http://127.0.0.1:9' }), 'admin.key': KEYS.admin })
    const answer = await run(null, ['list', '--url', url], { environment: { HOLDFAST_HOME: folder } })
    expect([answer.status, answer.err]).toEqual([5, expect.stringContaining('there is no API key')])
    expect(api?.audit).toEqual([])
  })

  test('without any it says what to give', async () => {
    const answer = await run(null, ['list'], { cwd: folder })
    expect([answer.status, answer.err]).toEqual([2, expect.stringContaining('HOLDFAST_URL')])
  })
})

describe('backups', () => {
  test('create waits for the end, and its status is the verdict', async () => {
    await serve(ending('succeeded'))
    const done = await run(url, [
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
    expect(api?.operations.calls[0]?.[1]).toMatchObject({
      type: 'incremental',
      sources: ['db1/app'],
      description: 'x',
      tenant_id: 't',
      dataset_ids: ['a.b'],
    })
    await api?.app.close()
    await serve(ending('failed', { error: { code: 'source_denied', message: 'no rights', hint: 'Grant them.' } }))
    const failed = await run(url, ['create', 'db1/app'])
    expect([failed.status, failed.out]).toEqual([1, expect.stringContaining('Grant them.')])
  })

  test('a job that failed because it is not allowed ends with the status of a refusal', async () => {
    const error = { code: 'restore_not_allowed', message: 'db2 does not accept it', hint: 'Allow it.' }
    await serve(ending('failed', { kind: 'restore', error }))
    expect((await run(url, ['restore', BACKUP, '--to', 'db2/app'])).status).toBe(5)
  })

  test('a restore says whether what it made was counted and compared', async () => {
    const preview = { creates: [], replaces: [], bytes: 10, findings: [] }
    const detail = { plan_only: false, preview, written_bytes: 10, target: 'db1/app', checked: true }
    await serve(ending('succeeded', { kind: 'restore', detail }))
    expect((await run(url, ['restore', BACKUP])).out).toContain('counted and compared: it is what was backed up')
    await api?.app.close()
    await serve(ending('succeeded', { kind: 'restore', detail: { ...detail, checked: false } }))
    expect((await run(url, ['restore', BACKUP])).out).toContain('not counted and compared')
  })

  test('of several some succeeded: done in part', async () => {
    const ids = ['j000000000000001', 'j000000000000002']
    await serve({
      startBackup: async () => ids.map((id) => job({ id })),
      listJobs: async () => ({
        items: [job({ id: ids[0], status: 'succeeded' }), job({ id: ids[1], status: 'failed' })],
        next_cursor: null,
      }),
    })
    const answer = await run(url, ['create', '--all', '--format', 'json'])
    expect(answer.status).toBe(3)
    expect(JSON.parse(answer.out).items.map((one: { status: string }) => one.status)).toEqual(['succeeded', 'failed'])
  })

  test('--no-wait returns with what was accepted', async () => {
    await serve()
    const answer = await run(url, ['create', 'db1/app', '--no-wait', '--format', 'json'])
    expect([answer.status, JSON.parse(answer.out).status]).toEqual([0, 'queued'])
  })

  test('--watch tells how it gets on', async () => {
    await serve({
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
    const { err } = await run(url, ['create', 'db1/app', '--watch'])
    expect(err).toContain('db1/app  running read  3.1 MB read')
    expect(err).toContain('1 min 5 s left')
  })

  test('a unique beginning or ending of an id is enough, and latest:host/name is the last good one', async () => {
    const asked: unknown[] = []
    await serve({
      listBackups: async (_by, filter) => {
        asked.push(filter)
        return {
          items: filter.id === '2026' ? [backup(), backup({ id: '20261122T020000Z-k7q2m4x9tb' })] : [backup()],
          next_cursor: null,
        }
      },
    })
    expect((await run(url, ['show', 'x9tb'])).out).toContain(BACKUP)
    expect(asked.at(-1)).toMatchObject({ id: 'x9tb' })
    expect(await run(url, ['show', '2026'])).toMatchObject({ status: 2, err: expect.stringContaining('more than one') })
    expect((await run(url, ['show', 'latest:db1/app'])).status).toBe(0)
    expect(asked.at(-1)).toMatchObject({ source: 'db1/app', status: 'good', limit: 1 })
  })

  test('validate ends with 1 when the backup is not valid', async () => {
    const details = [{ code: 'object_missing', object: 'packs/1', message: 'it is not there' }]
    await serve({
      validateBackup: async () => ({
        validation: {
          not_checked: [],
          valid: false,
          errors: ['object_missing'],
          details,
        },
      }),
    })
    const answer = await run(url, ['validate', BACKUP])
    expect([answer.status, answer.out]).toEqual([1, expect.stringContaining('packs/1')])
  })
})

describe('jobs and the rest of the fleet', () => {
  test('a job that is being cancelled says so until it is over', async () => {
    const asked = '2026-11-21T02:01:00.000Z'
    await serve({ getJob: async () => job({ status: 'running', cancel_requested_at: asked }) })
    expect((await run(url, ['jobs', JOB])).out).toMatch(/status +running, being cancelled/)
    await api?.app.close()
    await serve({ getJob: async () => job({ status: 'cancelled', cancel_requested_at: asked }) })
    expect((await run(url, ['jobs', JOB])).out).toMatch(/status +cancelled\n/)
  })

  test('logs -f goes on until the job is finished', async () => {
    await serve({
      events: async function* () {
        yield { id: 1, type: 'log', at: '2026-11-21T02:01:00.000Z', attempt: 1, data: { level: 'info', message: 'reading' } }
        yield { id: 2, type: 'state', at: '2026-11-21T02:01:01.000Z', attempt: 1, data: { state: 'succeeded' } }
      },
    })
    const answer = await run(url, ['logs', JOB, '-f'])
    expect(answer.out.split('\n').map((line) => line.slice(22).trim())).toEqual(['info     reading', 'state    succeeded', ''])
    const json = await run(url, ['logs', JOB, '-f', '--format', 'json'])
    expect(JSON.parse(json.out).items).toHaveLength(2)
  })

  test('many hosts are invited from a file', async () => {
    await serve()
    await writeFile(path.join(folder, 'hosts.txt'), 'db1\n# spare\ndb2  # two\n\n')
    const answer = await run(url, ['agents', 'invite', '--from', 'hosts.txt', '--valid', '24h', '--format', 'json'], {
      cwd: folder,
    })
    expect(JSON.parse(answer.out).items.map((one: { name: string }) => one.name)).toEqual(['db1', 'db2'])
    expect(api?.operations.calls[0]?.[1]).toMatchObject({ valid_seconds: 86_400 })
    expect((await run(url, ['agents', 'invite'])).status).toBe(2)
  })

  test('the line of an invitation can be pasted as it is: it is the whole answer', async () => {
    await serve()
    const { out, err } = await run(url, ['agents', 'invite', 'db1'])
    expect(out).toBe('holdfast-agent configure ...\n')
    expect(err).toContain('valid 15 min, once')
  })

  test('agents list is what agents alone is', async () => {
    await serve()
    const alone = await run(url, ['agents'])
    expect(alone.status).toBe(0)
    expect(await run(url, ['agents', 'list'])).toEqual(alone)
  })

  test('agents says why one may not connect', async () => {
    const agent = {
      ...{ id: 'a1', name: 'db1', state_reason: 'generation 2 was renewed again with another key', connected: false },
      ...{ version: null, os: null, arch: null, labels: {}, clock_offset_seconds: null, sources: [], certificate: null },
      ...{ created_at: '2026-11-21T02:00:00.000Z', last_seen_at: null },
    }
    await serve({ listAgents: async () => ({ items: [{ ...agent, state: 'suspended' as const }], next_cursor: null }) })
    expect((await run(url, ['agents'])).out).toMatch(/db1 .*suspended: generation 2 was renewed again with another key/)
  })

  test('a recovery identity is made here: the control plane sees its public part only', async () => {
    await serve()
    const answer = await run(url, ['keys', 'new-recovery'])
    expect(answer.out).toMatch(/^AGE-SECRET-KEY-1/m)
    expect(answer.out).toContain('# verifying key: pem')
    const sent = JSON.stringify(api?.operations.calls)
    expect(sent).toContain(/# public key: (age1\w+)/.exec(answer.out)?.[1])
    expect(sent).not.toContain('AGE-SECRET-KEY')
  })

  test('the first recovery identity is made without a control plane', async () => {
    const answer = await run(null, ['keys', 'new-recovery', '--first'], { cwd: folder })
    expect(answer.status).toBe(0)
    expect(answer.out).toMatch(/^AGE-SECRET-KEY-1/m)
    expect(answer.err).toContain(/# public key: (age1\w+)/.exec(answer.out)?.[1])
    expect(JSON.parse((await run(null, ['keys', 'new-recovery', '--first', '--format', 'json'])).out)).toHaveProperty('recipient')
  })

  test('a keyring for several control planes is made once and never replaced', async () => {
    expect((await run(null, ['keys', 'new-keyring', 'k'], { cwd: folder })).status).toBe(0)
    expect((await run(null, ['keys', 'new-keyring', 'k'], { cwd: folder })).status).toBe(1)
  })

  test('apply and diff send the fleet file, and say what changes', async () => {
    const changes = [
      { kind: 'policy', name: 'p', action: 'update', fields: [{ path: 'retention.daily', from: 7, to: 8 }] },
    ] as const
    await serve({
      diffFleet: async () => ({
        applied: false,
        findings: [],
        changes: [...changes].map((one) => ({ ...one, fields: [...one.fields] })),
      }),
    })
    await writeFile(path.join(folder, 'fleet.yaml'), 'policies: { p: { retention: { daily: 8 } } }')
    const answer = await run(url, ['diff', '-f', 'fleet.yaml'], { cwd: folder })
    expect(answer.out).toBe('~ policy p\n    retention.daily: 7 -> 8\n1 would change\n')
    expect((await run(url, ['apply', '-f', 'fleet.yaml'], { cwd: folder })).status).toBe(0)
    expect(api?.operations.calls.at(-1)).toEqual(['applyFleet', { policies: { p: { retention: { daily: 8 } } } }])
    await writeFile(path.join(folder, 'bad.yaml'), 'a: [')
    expect((await run(url, ['apply', '-f', 'bad.yaml'], { cwd: folder })).status).toBe(2)
  })

  test('what takes something away asks first', async () => {
    await serve()
    for (const args of [
      ['delete', BACKUP],
      ['agents', 'revoke', 'db1'],
      ['api-keys', 'revoke', 'k1'],
    ]) {
      expect((await run(url, args)).status, args.join(' ')).toBe(2)
      expect((await run(url, args, { answer: '' })).status, args.join(' ')).toBe(1)
    }
    expect(api?.operations.calls.map(([name]) => name)).not.toContain('deleteBackup')
    expect((await run(url, ['delete', BACKUP, '--yes'])).status).toBe(0)
  })

  test('who forces a lost job is told what that risks, and has to say so', async () => {
    await serve({ getJob: async () => job({ status: 'lost', agent: 'db1', target: 'db1/copy' }) })
    expect((await run(url, ['force', JOB])).status).toBe(2)
    const asked = await run(url, ['force', JOB], { answer: 'no' })
    expect(asked.status).toBe(1)
    expect(asked.asked.join()).toMatch(/If it still writes db1\/copy, a further attempt may mix with it/)
    expect(api?.operations.calls.map(([name]) => name)).not.toContain('forceJob')
    expect((await run(url, ['force', JOB], { answer: 'y' })).status).toBe(0)
    expect(api?.operations.calls.map(([name]) => name)).toContain('forceJob')
  })

  test('who revokes an agent is told that addresses it was given work for at most 15 minutes more', async () => {
    const revoked = {
      ...{ id: 'a1', name: 'db1', state_reason: null, connected: false, version: null, os: null, arch: null },
      ...{ labels: {}, clock_offset_seconds: null, sources: [], certificate: null },
      ...{ created_at: '2026-11-21T02:00:00.000Z', last_seen_at: null },
    } as const
    await serve({ revokeAgent: async () => ({ ...revoked, state: 'revoked', labels: {}, sources: [] }) })
    const said = /work until they expire, in at most 15 minutes/
    expect((await run(url, ['agents', 'revoke', 'db1'], { answer: '' })).asked.join()).toMatch(said)
    expect((await run(url, ['agents', 'revoke', 'db1', '--yes'])).err).toMatch(said)
  })

  test.each(['bash', 'zsh', 'fish'])('completion for %s names every command and its options', async (shell) => {
    const { status, out } = await run(null, ['completion', shell])
    expect(status).toBe(0)
    for (const word of ['test-restore', 'new-recovery', 'overwrite']) expect(out).toContain(word)
  })

  test('bash completes commands, commands below them and options', async () => {
    const { out } = await run(null, ['completion', 'bash'])
    const complete = async (...words: string[]) => {
      const typed = words.map((word) => `'${word}'`).join(' ')
      const script = `${out}\nCOMP_WORDS=(holdfast ${typed}); COMP_CWORD=${words.length}; _holdfast; echo "\${COMPREPLY[*]}"`
      return (await runCommand('bash', ['-c', script])).trim()
    }
    expect(await complete('test')).toBe('test-restore test')
    expect(await complete('agents', 'inv')).toBe('invite')
    expect(await complete('agents', 'invite', '--rep')).toBe('--replace')
    expect(await complete('restore', 'abc', '--to', 'x', '--over')).toBe('--overwrite')
  })
})
