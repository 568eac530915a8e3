import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { systemClock } from '../../../shared/clock.ts'
import { TestFleet } from '../../../shared/repository/testing/fleet.ts'
import { Secret } from '../../../shared/secret.ts'
import { type LocalTarget, openLocal } from '../../../shared/storage/local/target.ts'
import type { Served, ServedAs } from '../../bench/jobs/target-server.ts'
import { selfSigned } from '../../harness/certificate.ts'
import { type FaultProxy, startFaultProxy } from '../../harness/fault-proxy.ts'
import { type ThrowAwayFolder, throwAwayFolder } from '../../harness/folders.ts'
import { type StartedProcess, startProcess } from '../../harness/processes.ts'
import { compiled } from '../../harness/server-process.ts'
import { FaultedAgent } from './agent.ts'
import { DataPathControlPlane } from './control-plane.ts'
import { DiskFaults } from './disk-faults.ts'

const SERVER = fileURLToPath(new URL('../../bench/jobs/target-server.ts', import.meta.url))

/** What seeds of the data path use one after the other: an agent, the server of a local target, the line between them, and disks that fail for both. */
export class DataPathWorld implements AsyncDisposable {
  readonly folder: ThrowAwayFolder
  readonly disks: DiskFaults
  readonly proxy: FaultProxy
  readonly target: LocalTarget
  readonly controlPlane: DataPathControlPlane
  readonly agent: FaultedAgent
  readonly #server: StartedProcess

  private constructor(parts: {
    folder: ThrowAwayFolder
    disks: DiskFaults
    proxy: FaultProxy
    target: LocalTarget
    fleet: TestFleet
    server: StartedProcess
  }) {
    this.folder = parts.folder
    this.disks = parts.disks
    this.proxy = parts.proxy
    this.target = parts.target
    this.#server = parts.server
    this.controlPlane = new DataPathControlPlane(parts.fleet, parts.target)
    this.agent = new FaultedAgent(this.controlPlane, parts.disks.env)
  }

  /** Null where disks cannot be made to fail. */
  static async start(): Promise<DataPathWorld | null> {
    const folder = await throwAwayFolder()
    const disks = await DiskFaults.open(folder.path)
    if (!disks) {
      await folder.remove()
      return null
    }
    const store = path.join(folder.path, 'store')
    const served = Promise.withResolvers<Served>()
    const server = await startProcess(process.execPath, ['--disable-warning=ExperimentalWarning', SERVER, store], {
      env: { ...compiled, ...disks.env },
      ipc: true,
      onMessage: (message) => served.resolve(message as Served),
    })
    const { key: privateKey, cert, sha256 } = await selfSigned()
    server.send({ key: privateKey.reveal(), cert, sha256: sha256.toString('hex') } satisfies ServedAs)
    const ended = server.exited.then(() => Promise.reject(new Error(server.output())))
    const { port, key } = await Promise.race([served.promise, ended])
    // later it is ended by us
    ended.catch(() => undefined)
    const proxy = await startFaultProxy({ upstream: `https://127.0.0.1:${port}` })
    // plain to the proxy, which is on this machine: there is no certificate to compare
    const signer = {
      baseUrl: proxy.origin,
      key: new Secret(Buffer.from(key, 'hex')),
      serverCertificateSha256: Buffer.alloc(0),
      clock: systemClock,
    }
    const target = await openLocal(store, { name: 'primary', clock: systemClock, create: true, signer })
    return new DataPathWorld({ folder, disks, proxy, target, fleet: await TestFleet.create(), server })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.disks.clear()
    await this.agent.stop()
    await this.proxy.stop()
    await this.#server.stop({ signal: 'SIGKILL' })
    this.disks.close()
    await this.folder.remove()
  }
}
