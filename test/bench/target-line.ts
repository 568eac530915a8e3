import { fork } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'
import { createTransfer, type Transfer } from '../../agent/transfer/transfer.ts'
import { systemClock } from '../../shared/clock.ts'
import type { SignedRequest } from '../../shared/generated/holdfast/agent/v1/objects.ts'
import { createLogger } from '../../shared/log.ts'
import { type BackupPlaceRef, objectKey } from '../../shared/manifest/layout.ts'
import { Secret } from '../../shared/secret.ts'
import { openLocal } from '../../shared/storage/local/target.ts'
import type { Served } from './target-server.ts'

export interface TargetServer {
  readonly pid: number | undefined
  readonly served: Served
  stop(): Promise<void>
}

/** The HTTPS server of a local target, in a process of its own and with the flags of a control plane; ready when this resolves. */
export async function startTargetServer(store: string): Promise<TargetServer> {
  const program = path.join(import.meta.dirname, 'target-server.ts')
  const server = fork(program, [store], { execArgv: ['--disable-warning=ExperimentalWarning'] })
  const [served] = (await once(server, 'message')) as [Served]
  const stop = async () => {
    const gone = once(server, 'exit')
    server.disconnect()
    await gone
  }
  return { pid: server.pid, served, stop }
}

/** The agent's transfer to that server, its addresses signed here in place of a control plane. */
export async function transferTo(served: Served, store: string, backup: BackupPlaceRef): Promise<Transfer> {
  const signer = {
    baseUrl: `https://127.0.0.1:${served.port}`,
    key: new Secret(Buffer.from(served.key, 'hex')),
    serverCertificateSha256: Buffer.from(served.certificateSha256, 'hex'),
    clock: systemClock,
  }
  const target = await openLocal(store, { name: 'primary', clock: systemClock, create: true, signer })
  const sent = ({
    headers,
    serverCertificateSha256 = Buffer.alloc(0),
    ...address
  }: Awaited<ReturnType<typeof target.signGet>>) => ({
    ...address,
    headers: { ...headers },
    serverCertificateSha256,
    alreadyStored: false,
  })
  const signPut = async ({ name, size, sha256 }: { name: string; size: number; sha256: Buffer }): Promise<SignedRequest> =>
    sent(await target.signPut(objectKey(backup, name), { size, sha256 }))
  return createTransfer({
    signPuts: (wanted) => Promise.all(wanted.map(signPut)),
    signGets: (keys) => Promise.all(keys.map(async (key): Promise<SignedRequest> => sent(await target.signGet(key)))),
    clock: systemClock,
    log: createLogger({ level: 'silent' }),
  })
}
