import { type ChildProcess, fork } from 'node:child_process'
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

/** The HTTPS server of a local target, in a process of its own. It ends with `disconnect`. */
export const startTargetServer = (store: string): ChildProcess =>
  fork(path.join(import.meta.dirname, 'target-server.ts'), [store])

/** The agent's transfer to that server, its addresses signed here in place of a control plane. */
export async function transferTo(server: ChildProcess, store: string, backup: BackupPlaceRef): Promise<Transfer> {
  const [served] = (await once(server, 'message')) as [Served]
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
