import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { runCommand } from '../../test/harness/commands.ts'
import type { JobView } from '../api/schemas/jobs.ts'
import { BACKUP, JOB, job } from '../api/testing/fake-operations.ts'
import { run, Served } from './testing.ts'

let served: Served
beforeEach(() => {
  served = new Served()
})
afterEach(() => served.close())

describe('jobs', () => {
  test('a list tells what only looked from what was done', async () => {
    const items = [
      { kind: 'restore', detail: { plan_only: true } },
      { kind: 'restore', detail: { plan_only: false } },
      { detail: { dry_run: true } },
    ]
    await served.start({ listJobs: async () => ({ items: items.map((one) => job(one as Partial<JobView>)), next_cursor: null }) })
    const kinds = (await run(served.url, ['jobs'])).out
      .split('\n')
      .slice(1, 4)
      .map((line) => /^\S+ +([a-z, ]+?) {2}/.exec(line)?.[1])
    expect(kinds).toEqual(['restore, plan', 'restore', 'backup, dry run'])
  })

  test('a job that is being cancelled says so until it is over', async () => {
    const asked = '2026-11-21T02:01:00.000Z'
    await served.start({ getJob: async () => job({ status: 'running', cancel_requested_at: asked }) })
    expect((await run(served.url, ['jobs', JOB])).out).toMatch(/status +running, being cancelled/)
    await served.close()
    await served.start({ getJob: async () => job({ status: 'cancelled', cancel_requested_at: asked }) })
    expect((await run(served.url, ['jobs', JOB])).out).toMatch(/status +cancelled\n/)
  })

  test('logs -f goes on until the job is finished', async () => {
    await served.start({
      events: async function* () {
        yield { id: 1, type: 'log', at: '2026-11-21T02:01:00.000Z', attempt: 1, data: { level: 'info', message: 'reading' } }
        yield { id: 2, type: 'state', at: '2026-11-21T02:01:01.000Z', attempt: 1, data: { state: 'succeeded' } }
      },
    })
    const answer = await run(served.url, ['logs', JOB, '-f'])
    expect(answer.out.split('\n').map((line) => line.slice(22).trim())).toEqual(['info     reading', 'state    succeeded', ''])
    const json = await run(served.url, ['logs', JOB, '-f', '--format', 'json'])
    expect(JSON.parse(json.out).items).toHaveLength(2)
  })
})

describe('a list of one source', () => {
  const none = { items: [], next_cursor: null }
  const source = (name: string, present = true) => ({
    ...{ source: name, engine: 'files', agent: 'db1', connected: true, present, labels: {}, facts: {}, policies: [] },
    ...{ last_good_at: null, last_good_id: null, last_seen_at: '2026-11-21T02:00:00.000Z' },
  })
  const sources = { items: [source('db1/app'), source('db2/app'), source('db1/etc', false)], next_cursor: null }
  const empty = { listBackups: async () => none, listJobs: async () => none, listSources: async () => sources }

  test.each(['list', 'jobs'])(
    '%s of a source that is not known is an error, with the names that are like it',
    async (command) => {
      await served.start(empty)
      const slip = await run(served.url, [command, '--source', 'db1/apq'])
      expect([slip.status, slip.out]).toEqual([4, ''])
      expect(slip.err).toMatch(
        /source db1\/apq is not known\nDid you mean db1\/app or db2\/app\? List the sources with "holdfast sources"/,
      )
      expect((await run(served.url, [command, '--source', 'web/app'])).err).toMatch(/mean db1\/app or db2\/app\?/)
      const latest = await run(served.url, ['show', 'latest:db1/apq'])
      expect([latest.status, latest.err]).toEqual([4, expect.stringContaining('db1/apq is not known')])
      const none = await run(served.url, ['show', 'latest:db1/app'])
      expect([none.status, none.err]).toEqual([4, expect.stringContaining('db1/app has no good backup')])
      const far = await run(served.url, [command, '--source', 'other/thing', '--format', 'json'])
      expect([far.status, JSON.parse(far.out)]).toEqual([4, expect.objectContaining({ code: 'not_found' })])
      expect(far.err).not.toContain('mean')
    },
  )

  test.each([
    [['list', '--source', 'app']],
    [['jobs', '--source', 'db1/a/b']],
    [['create', 'db1/app', 'etc']],
    [['accept-fall', 'app']],
    [['test-restore', BACKUP, '--via', 'app']],
    [['restore', BACKUP, '--via', 'app']],
    [['show', 'latest:app']],
  ])('what is no host/name is said in words of the command line: %j', async (args) => {
    const { status, err } = await run('http://127.0.0.1:9', args)
    expect([status, err]).toEqual([
      2,
      expect.stringContaining('is not of the form host/name\nName a source as host/name, for example'),
    ])
  })

  test('one that is known and has none is no error, be it there or removed', async () => {
    await served.start(empty)
    expect(await run(served.url, ['list', '--source', 'db1/app'])).toMatchObject({ status: 0, err: 'no backups\n' })
    expect(await run(served.url, ['list', '--source', 'db1/etc'])).toMatchObject({ status: 0, err: 'no backups\n' })
    // the end of a list that had some
    expect((await run(served.url, ['list', '--source', 'other/thing', '--cursor', 'next'])).status).toBe(0)
  })
})

test('status tells what its own host alone has looked at from what nobody has, and says whose look counts', async () => {
  const at = '2026-11-21T02:00:00.000Z'
  const source = (name: string, more: object) => ({
    ...{ source: name, engine: 'files', connected: true, policies: [], protected: true, last_good_at: at, last_good_id: BACKUP },
    ...{ age_seconds: 60, verified_at: null, test_restored_at: null, own_verified_at: null, own_test_restored_at: null },
    ...{ recipients: 'all' as const, last_failure: null, three_two_one: { copies: 2, kinds: 1, elsewhere: 0, met: false } },
    ...more,
  })
  const all = { agents: { total: 1, connected: 1 }, jobs: { queued: 0, running: 0 }, version: '0.1.0', fleet_id: null, at }
  const shown = async (...sources: ReturnType<typeof source>[]) => {
    await served.start({ status: async () => ({ ...all, sources }) })
    const { out, err } = await run(served.url, ['status'])
    await served.close()
    const rows = out.split('\n').filter((line) => line.startsWith('db1/'))
    return { cells: rows.map((row) => row.split(/ {2,}/).slice(3, 5)), err }
  }
  const { cells, err } = await shown(
    source('db1/own', { own_test_restored_at: at }),
    source('db1/other', { verified_at: at, own_verified_at: at }),
    source('db1/none', {}),
  )
  expect(cells).toEqual([
    ['-', 'own host only'],
    ['2026-11-21 02:00:00Z', '-'],
    ['-', '-'],
  ])
  expect(err).toMatch(/^own host only: .* another host .*\n {2}.*--on HOST.*--via HOST\/NAME.*\n$/)
  expect((await shown(source('db1/none', {}), source('db1/other', { verified_at: at, own_verified_at: at }))).err).toBe('')
})

describe('the rest of the fleet', () => {
  test('many hosts are invited from a file', async () => {
    await served.start()
    await writeFile(path.join(served.folder, 'hosts.txt'), 'db1\n# spare\ndb2  # two\n\n')
    const answer = await run(served.url, ['agents', 'invite', '--from', 'hosts.txt', '--valid', '24h', '--format', 'json'], {
      cwd: served.folder,
    })
    expect(JSON.parse(answer.out).items.map((one: { name: string }) => one.name)).toEqual(['db1', 'db2'])
    expect(served.calls[0]?.[1]).toMatchObject({ valid_seconds: 86_400 })
    expect((await run(served.url, ['agents', 'invite'])).status).toBe(2)
  })

  test('the line of an invitation can be pasted as it is: it is the whole answer', async () => {
    await served.start()
    const { out, err } = await run(served.url, ['agents', 'invite', 'db1'])
    expect(out).toBe('holdfast-agent configure ...\n')
    expect(err).toContain('valid 15 min, once')
  })

  test('agents list is what agents alone is', async () => {
    await served.start()
    const alone = await run(served.url, ['agents'])
    expect(alone.status).toBe(0)
    expect(await run(served.url, ['agents', 'list'])).toEqual(alone)
  })

  test('agents says why one may not connect', async () => {
    const agent = {
      ...{ id: 'a1', name: 'db1', state_reason: 'generation 2 was renewed again with another key', connected: false },
      ...{ version: null, os: null, arch: null, labels: {}, clock_offset_seconds: null, sources: [], certificate: null },
      ...{ created_at: '2026-11-21T02:00:00.000Z', last_seen_at: null },
    }
    await served.start({ listAgents: async () => ({ items: [{ ...agent, state: 'suspended' as const }], next_cursor: null }) })
    expect((await run(served.url, ['agents'])).out).toMatch(/db1 .*suspended: generation 2 was renewed again with another key/)
  })

  test('a recovery identity is made here: the control plane sees its public part only', async () => {
    await served.start()
    const answer = await run(served.url, ['keys', 'new-recovery'])
    expect(answer.out).toMatch(/^AGE-SECRET-KEY-1/m)
    expect(answer.out).toContain('# verifying key: pem')
    const sent = JSON.stringify(served.calls)
    expect(sent).toContain(/# public key: (age1\w+)/.exec(answer.out)?.[1])
    expect(sent).not.toContain('AGE-SECRET-KEY')
  })

  test('the first recovery identity is made without a control plane', async () => {
    const answer = await run(null, ['keys', 'new-recovery', '--first'], { cwd: served.folder })
    expect(answer.status).toBe(0)
    expect(answer.out).toMatch(/^AGE-SECRET-KEY-1/m)
    expect(answer.err).toContain(/# public key: (age1\w+)/.exec(answer.out)?.[1])
    expect(JSON.parse((await run(null, ['keys', 'new-recovery', '--first', '--format', 'json'])).out)).toHaveProperty('recipient')
  })

  test('a keyring for several control planes is made once and never replaced', async () => {
    expect((await run(null, ['keys', 'new-keyring', 'k'], { cwd: served.folder })).status).toBe(0)
    expect((await run(null, ['keys', 'new-keyring', 'k'], { cwd: served.folder })).status).toBe(1)
  })

  test('apply and diff send the fleet file, and say what changes', async () => {
    const changes = [
      { kind: 'policy', name: 'p', action: 'update', fields: [{ path: 'retention.daily', from: 7, to: 8 }] },
    ] as const
    await served.start({
      diffFleet: async () => ({
        applied: false,
        findings: [],
        changes: [...changes].map((one) => ({ ...one, fields: [...one.fields] })),
      }),
    })
    await writeFile(path.join(served.folder, 'fleet.yaml'), 'policies: { p: { retention: { daily: 8 } } }')
    const answer = await run(served.url, ['diff', '-f', 'fleet.yaml'], { cwd: served.folder })
    expect(answer.out).toBe('~ policy p\n    retention.daily: 7 -> 8\n1 would change\n')
    expect((await run(served.url, ['apply', '-f', 'fleet.yaml'], { cwd: served.folder })).status).toBe(0)
    expect(served.calls.at(-1)).toEqual(['applyFleet', { policies: { p: { retention: { daily: 8 } } } }])
    await writeFile(path.join(served.folder, 'bad.yaml'), 'policies:\n  p: a: b\n')
    const bad = await run(served.url, ['apply', '-f', 'bad.yaml'], { cwd: served.folder })
    expect(bad.status).toBe(2)
    expect(bad.err).toMatch(/bad\.yaml is not valid YAML: line 2, column 6: [\w ]+\nCorrect the file at that place\.\n$/)
  })

  test('what takes something away asks first', async () => {
    await served.start()
    for (const args of [
      ['delete', BACKUP],
      ['agents', 'revoke', 'db1'],
      ['api-keys', 'revoke', 'k1'],
    ]) {
      expect((await run(served.url, args)).status, args.join(' ')).toBe(2)
      expect((await run(served.url, args, { answer: '' })).status, args.join(' ')).toBe(1)
    }
    expect(served.calls.map(([name]) => name)).not.toContain('deleteBackup')
    expect((await run(served.url, ['delete', BACKUP, '--yes'])).status).toBe(0)
  })

  test('who forces a lost job is told what that risks, and has to say so', async () => {
    await served.start({ getJob: async () => job({ status: 'lost', agent: 'db1', target: 'db1/copy' }) })
    expect((await run(served.url, ['force', JOB])).status).toBe(2)
    const asked = await run(served.url, ['force', JOB], { answer: 'no' })
    expect(asked.status).toBe(1)
    expect(asked.asked.join()).toMatch(/If it still writes db1\/copy, a further attempt may mix with it/)
    expect(served.calls.map(([name]) => name)).not.toContain('forceJob')
    expect((await run(served.url, ['force', JOB], { answer: 'y' })).status).toBe(0)
    expect(served.calls.map(([name]) => name)).toContain('forceJob')
  })

  test('who revokes an agent is told that addresses it was given work for at most 15 minutes more', async () => {
    const revoked = {
      ...{ id: 'a1', name: 'db1', state_reason: null, connected: false, version: null, os: null, arch: null },
      ...{ labels: {}, clock_offset_seconds: null, sources: [], certificate: null },
      ...{ created_at: '2026-11-21T02:00:00.000Z', last_seen_at: null },
    } as const
    await served.start({ revokeAgent: async () => ({ ...revoked, state: 'revoked', labels: {}, sources: [] }) })
    const said = /work until they expire, in at most 15 minutes/
    expect((await run(served.url, ['agents', 'revoke', 'db1'], { answer: '' })).asked.join()).toMatch(said)
    expect((await run(served.url, ['agents', 'revoke', 'db1', '--yes'])).err).toMatch(said)
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
