import { mkdir, rename, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { stringify } from 'yaml'
import type { JobView } from '../../control-plane/api/schemas/jobs.ts'
import type { CatalogConfig } from '../../control-plane/catalog/open.ts'
import { Secret } from '../../shared/secret.ts'
import type { TestAgent } from '../harness/holdfast.ts'
import { type PostgresServer, startPostgres } from '../harness/postgres.ts'
import type { StartedProcess } from '../harness/processes.ts'
import { type SmallDisk, smallDisk } from '../harness/small-disk.ts'
import { startTcpProxy, type TcpProxy } from '../harness/tcp-proxy.ts'
import { waitFor } from '../harness/wait.ts'
import { FaultBench } from './bench.ts'
import { DatabaseWatch } from './database-watch.ts'
import { RestoreWatch } from './restore-watch.ts'
import type { FaultKind } from './schedule.ts'
import { makeTemplate, type SeedSource, type TwoNames } from './seed-source.ts'

export type HostName = 'db1' | 'db2'

interface Host {
  readonly agent: TestAgent
  readonly line: TcpProxy
  /** Holds the agent's home and the host's data; null where nothing can be mounted. */
  readonly disk: SmallDisk | null
  readonly data: string
}

const HOSTS: readonly HostName[] = ['db1', 'db2']
/** A seed's source, its copies, and what the agent keeps. */
const DISK_MEGABYTES = 64

/**
 * Two hosts, a control plane that can be killed, a store and a database server, which seeds use one after the other. Each seed has sources
 * of its own, so that what one does is the same whichever came before it.
 */
export class World implements AsyncDisposable {
  readonly bench: FaultBench
  readonly watch: RestoreWatch
  /** Of `postgres`. */
  readonly databases: DatabaseWatch | null
  readonly postgres: PostgresServer | null
  readonly hosts: Readonly<Record<HostName, Host>>
  readonly #catalogs: PostgresServer | null
  #server: StartedProcess

  private constructor(parts: {
    bench: FaultBench
    postgres: PostgresServer | null
    catalogs: PostgresServer | null
    hosts: Record<HostName, Host>
    server: StartedProcess
  }) {
    this.bench = parts.bench
    this.postgres = parts.postgres
    this.hosts = parts.hosts
    this.#catalogs = parts.catalogs
    this.#server = parts.server
    this.watch = new RestoreWatch(parts.bench.holdfast.folder.path)
    this.databases = parts.postgres && new DatabaseWatch(parts.postgres)
  }

  /** Null where the S3 server cannot be had, or the watch has nothing to look at. */
  static async start(): Promise<World | null> {
    if (process.platform !== 'linux') return null
    // a server for the catalog where there is one: a control plane that is killed is then back in half the time
    const catalogs = await startPostgres(16)
    const bench = await FaultBench.start(catalogs ? { catalog: await newCatalog(catalogs) } : {})
    if (!bench) {
      await catalogs?.stop()
      return null
    }
    const postgres = await startPostgres(16)
    if (postgres) await makeTemplate(postgres)
    const [db1, db2] = [await join(bench, 'db1'), await join(bench, 'db2')]
    const server = await bench.holdfast.startShiftedServer(bench.clock, bench.awsVariables)
    return new World({ bench, postgres, catalogs, hosts: { db1, db2 }, server })
  }

  /** What cannot be done on this machine. */
  get beyond(): FaultKind[] {
    const { hosts, postgres } = this
    return [
      ...(postgres ? [] : ['database killed' as const]),
      ...(hosts.db1.disk && hosts.db2.disk ? [] : ['disk full' as const]),
    ]
  }

  /** Both hosts have this source, and no other. */
  async offer(source: SeedSource): Promise<void> {
    for (const name of HOSTS) {
      const { agent, data } = this.hosts[name]
      const file = path.join(agent.home, 'agent.yaml')
      const config = { restores_from: ['*'], sources: { [source.name]: source.entry(data) } }
      await writeFile(`${file}.new`, stringify(config))
      await rename(`${file}.new`, file)
    }
    const known = async () => {
      const { items } = await this.bench.holdfast.operator.ask<{ items: Array<{ source: string }> }>(
        'GET',
        '/api/v1/sources?limit=500',
      )
      return HOSTS.every((host) => items.some((item) => item.source === `${host}/${source.name}`))
    }
    await waitFor(`${source.name} to be known`, known)
  }

  /** Ends the control plane, as told, and starts it again. */
  async restartServer(signal: NodeJS.Signals): Promise<void> {
    await this.#server.stop({ signal })
    this.#server = await this.bench.holdfast.startShiftedServer(this.bench.clock, this.bench.awsVariables)
  }

  /** What it writes is watched from now until nothing runs. */
  watchRestore(job: JobView): JobView {
    this.watch.add(job.id)
    this.databases?.start()
    return job
  }

  /** The restore has begun what will have the name. */
  hasPlace(jobId: string, { guard, copy }: TwoNames): boolean | Promise<boolean> {
    return guard === 'server' ? (this.databases?.fills(copy) ?? false) : this.watch.makes(jobId)
  }

  /** What the watches have seen that may not be. */
  get violations(): readonly string[] {
    return [...this.watch.violations, ...(this.databases?.violations ?? [])]
  }

  /** Nothing runs: no job is unfinished, and no process works on one. */
  async requireQuiet(): Promise<void> {
    const { items } = await this.bench.holdfast.operator.ask<{ items: JobView[] }>(
      'GET',
      '/api/v1/jobs?unfinished=true&limit=500',
    )
    require(items.length === 0, `jobs are unfinished: ${items.map(({ id, status }) => `${id} ${status}`).join(', ')}`)
    await waitFor('every process of a job to end', () => this.watch.workers().length === 0)
    await this.#rest()
    require(this.violations.length === 0, this.violations.join('; '))
  }

  async #rest(): Promise<void> {
    this.watch.rest()
    await this.databases?.rest()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#rest()
    this.bench.proxy.script = () => ({ kind: 'pass' })
    const hosts = Object.values(this.hosts)
    await Promise.all(hosts.map(({ agent }) => agent.stop('SIGKILL')))
    await this.#server.stop({ signal: 'SIGKILL' })
    await Promise.all(hosts.map(({ line }) => line.stop()))
    await Promise.all(hosts.map(({ disk }) => disk?.stop()))
    await this.bench[Symbol.asyncDispose]()
    await Promise.all([this.postgres?.stop(), this.#catalogs?.stop()])
  }
}

async function newCatalog(server: PostgresServer): Promise<CatalogConfig> {
  await server.sql('postgres', 'create database catalog')
  const url = new URL(server.url('catalog'))
  url.password = encodeURIComponent(server.password)
  return { kind: 'postgres', url: new Secret(url.href) }
}

async function join({ holdfast }: FaultBench, name: HostName): Promise<Host> {
  const home = path.join(holdfast.folder.path, 'agents', name)
  const disk = await smallDisk(home, DISK_MEGABYTES)
  const data = path.join(home, 'data')
  await mkdir(data, { recursive: true })
  const line = await startTcpProxy(holdfast.server.ports.agents)
  const agent = await holdfast.addAgent(name, { sources: {} }, { server: `127.0.0.1:${line.port}` })
  return { agent, line, disk, data }
}

export function require(holds: boolean, what: string): void {
  if (!holds) throw new Error(what)
}
