import { readdir, readFile, stat } from 'node:fs/promises'
import { createServer } from 'node:net'
import path from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import type { BackupView } from '../../control-plane/api/schemas/backups.ts'
import { cloneHere, INSTALLATION_MS } from '../harness/clone.ts'
import { onPath } from '../harness/debian.ts'
import { freePort, threeFreePorts } from '../harness/ports.ts'
import type { StartedProcess } from '../harness/processes.ts'
import { listens } from '../harness/processes.ts'
import { waitFor } from '../harness/wait.ts'

/** The first five minutes of a newcomer: a fresh clone, `npm start`, Ctrl-C, `npm start` again. One story: each part goes on from the one before. */

const clone = await cloneHere()
const apiPort = await freePort()
const agentPort = await threeFreePorts()
const PORTS = ['--port', String(apiPort), '--agent-port', String(agentPort)]
const HOST = '[a-z0-9][a-z0-9._-]*'

afterAll(() => clone?.[Symbol.asyncDispose]())

const here = () => clone as NonNullable<typeof clone>
const isUp = (started: StartedProcess) => started.output().includes('  Next: ')
const up = (...args: string[]) => here().start([...PORTS, ...args], isUp)

/** As a terminal's Ctrl-C: to npm and everything that it started, at once. */
const ctrlC = (started: StartedProcess) => process.kill(-started.pid, 'SIGINT')

/** Its own lines, without npm's. */
const rows = (output: string) => output.split('\n').filter((line) => /^ {2}\S|^ {4}found/.test(line))

async function list(): Promise<BackupView[]> {
  const { status, stdout } = await here().run('npx', ['--no-install', 'holdfast', 'list', '--format', 'json'])
  expect(status).toBe(0)
  return (JSON.parse(stdout) as { items: BackupView[] }).items
}

async function nothingLeft(started: StartedProcess): Promise<void> {
  expect(await here().processes(started.pid)).toEqual([])
  for (const port of [apiPort, agentPort, agentPort + 1, agentPort + 2]) expect(await listens(port)).toBe(false)
}

describe.skipIf(clone === null)('the quickstart in a fresh clone', () => {
  it('npm start -- --once shows a whole life of a backup and ends with status 0', {
    timeout: INSTALLATION_MS + 60_000,
  }, async () => {
    const once = await here().run('npm', ['start', '--', '--once', ...PORTS])
    expect([once.status, once.stderr.includes('installing what it needs')]).toEqual([0, here().installs])
    const shown = rows(once.stdout).filter((line) => !line.includes('found here too'))
    const wanted = [
      String.raw`^  holdfast \d+\.\d+\.\d+ +catalog: embedded    storage: data/store \(local disk\)$`,
      String.raw`^  ✓ control plane   http://127\.0\.0\.1:${apiPort}    agents: 127\.0\.0\.1:${agentPort} \(mutual TLS\)$`,
      String.raw`^  ✓ agent ${HOST} +enrolled, certificate renews in \d+ h$`,
      String.raw`^  ✓ sources +(${HOST})/notes \(sqlite, 12 480 rows\)   \1/config \(files, 6\)$`,
      String.raw`^  ✓ backup +${HOST}/notes   full +2\.\d MB read +\d+ kB stored +valid$`,
      String.raw`^  ✓ backup +${HOST}/config   full +\d+ B read +\d\.\d kB stored +valid$`,
      String.raw`^  ✓ backup +${HOST}/notes   incremental +2\.\d MB read +\d+\.\d kB stored +valid +\(after 50 more rows\)$`,
      String.raw`^  ✓ test restore +${HOST}/notes   12 530 of 12 530 rows match, \d+\.\d s$`,
      String.raw`^  API and docs http://127\.0\.0\.1:${apiPort}/docs    key hfk_\w{4}\.\.\. \(data/admin\.key\)    recovery key data/recovery\.key: keep it elsewhere$`,
      '^  Next: npx --no-install holdfast list$',
    ]
    expect(shown).toHaveLength(wanted.length)
    wanted.forEach((line, at) => {
      expect(shown[at]).toMatch(new RegExp(line))
    })
    expect(await here().processes()).toEqual([])
  })

  it('everything is under data/, and what is secret only for its owner', async () => {
    const data = path.join(here().folder, 'data')
    expect(await readdir(data)).toEqual(
      expect.arrayContaining(['admin.key', 'agent', 'catalog', 'recovery.key', 'sample', 'store']),
    )
    expect(await readFile(path.join(data, 'recovery.key'), 'utf8')).toMatch(/^# verifying key: hfv1[\s\S]*^AGE-SECRET-KEY-1/m)
    for (const name of ['admin.key', 'recovery.key', 'agent.log', 'server.log']) {
      expect([name, (await stat(path.join(data, name))).mode & 0o077]).toEqual([name, 0])
    }
    // with --home it may be anywhere in a repository, and holds keys
    expect(await readFile(path.join(data, '.gitignore'), 'utf8')).toBe('*\n')
    const { stdout } = await here().run('git', ['status', '--porcelain'])
    expect(stdout).toBe('')
  })

  it('npm start finds its data, its agent and its backups; Ctrl-C ends all of it with status 0', async () => {
    const started = await up()
    expect(rows(started.stdout()).filter((line) => line.includes('✓ backup'))).toHaveLength(3)
    const backups = await list()
    expect(backups.map(({ type, valid, status }) => `${type} ${status} ${valid}`)).toEqual([
      'incremental good true',
      'full good true',
      'full good true',
    ])
    ctrlC(started)
    expect(await started.exited).toEqual({ status: 0, signal: null })
    await nothingLeft(started)

    const again = await up()
    expect(await list()).toEqual(backups)
    const agents = await here().run('npx', ['--no-install', 'holdfast', 'agents', '--all', '--format', 'json'])
    expect((JSON.parse(agents.stdout) as { items: unknown[] }).items).toHaveLength(1)

    // a second one beside it says why not, and does the first no harm
    const second = await here().run('npm', ['start', '--', ...PORTS])
    expect([second.status, second.stderr]).toEqual([1, expect.stringMatching(/data\/catalog is in use by another process/)])
    expect(await list()).toEqual(backups)
    // to npm alone, as a supervisor does
    again.kill('SIGTERM')
    expect(await again.exited).toEqual({ status: 0, signal: null })
    await nothingLeft(again)
  })

  it('on other ports it finds its data and its agent too', async () => {
    const [otherApi, otherAgents] = [await threeFreePorts(), await threeFreePorts()]
    const moved = await here().start(['--port', `${otherApi}`, '--agent-port', `${otherAgents}`], isUp)
    expect(moved.stdout()).toContain(`http://127.0.0.1:${otherApi}    agents: 127.0.0.1:${otherAgents}`)
    expect(await list()).toHaveLength(3)
    ctrlC(moved)
    expect(await moved.exited).toEqual({ status: 0, signal: null })
    expect(await here().processes(moved.pid)).toEqual([])
  })

  it.each([
    ['the API', apiPort],
    ['the agents', agentPort],
    ['the enrolment', agentPort + 1],
    ["the local target's objects", agentPort + 2],
  ])('a port of %s that is taken is named, and nothing stays running', async (what, port) => {
    const taken = createServer()
    await new Promise<void>((resolve) => taken.listen(port, '127.0.0.1', resolve))
    try {
      const { status, stderr } = await here().run('npm', ['start', '--', ...PORTS])
      const ours = stderr.split('\n').filter((line) => line !== '' && !line.startsWith('npm '))
      expect([status, ours]).toEqual([
        1,
        [`holdfast: port ${port} on 127.0.0.1 for ${what} is taken`, expect.stringContaining('choose another port')],
      ])
    } finally {
      await new Promise((resolve) => taken.close(resolve))
    }
    expect(await here().processes()).toEqual([])
  })

  it('Ctrl-C in the middle of a backup stops cleanly, and the next start carries on', async () => {
    const home = ['--home', 'interrupted']
    const atWork = async () => (await here().processes()).some((line) => /build\/job-.*\/agent\/jobs\/child\.mjs/.test(line))
    const first = await here().start([...PORTS, ...home, '--once'], atWork)
    ctrlC(first)
    // not all of it was shown
    expect((await first.exited).status).not.toBe(0)
    await nothingLeft(first)
    const next = await here().run('npm', ['start', '--', ...PORTS, ...home, '--once'])
    expect([next.status, next.stderr]).toEqual([0, expect.not.stringContaining('holdfast:')])
    // the first may have come to show one before it heard that it was to stop
    const shown = [...rows(first.stdout()), ...rows(next.stdout)]
    const fulls = shown.filter((line) => /✓ backup .* full .* valid$/.test(line))
    expect(fulls.map((line) => line.split(/ +/)[3]?.split('/')[1]).sort()).toEqual(['config', 'notes'])
    expect(next.stdout).toMatch(/✓ test restore .* 12 530 of 12 530 rows match/)
    await nothingLeft(first)
  })

  it('a quickstart that is killed leaves no agent behind', async () => {
    const started = await up()
    const main = (await here().processes()).find((line) => line.includes('deploy/quickstart/main.ts'))
    process.kill(Number(main?.split(' ')[0]), 'SIGKILL')
    await started.exited
    await waitFor('nothing to be left', async () => (await here().processes(started.pid)).length === 0)
  })

  it.skipIf(process.platform !== 'linux' || onPath('script') === null)('Ctrl-C on a real terminal ends all of it', async () => {
    const terminal = await here().startOnTerminal(PORTS, isUp)
    terminal.type('\u0003')
    expect(await terminal.exited).toEqual({ status: 0, signal: null })
    await nothingLeft(terminal)
  })
})
