import { fork } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'
import { createTransfer, type Transfer } from '../../../agent/transfer/transfer.ts'
import { systemClock } from '../../../shared/clock.ts'
import type { SignedRequest } from '../../../shared/generated/holdfast/agent/v1/objects.ts'
import { createLogger } from '../../../shared/log.ts'
import { type BackupPlaceRef, objectKey } from '../../../shared/manifest/layout.ts'
import { Secret } from '../../../shared/secret.ts'
import { openLocal } from '../../../shared/storage/local/target.ts'
import type { StorageTarget } from '../../../shared/storage/target.ts'
import type { Place } from './made.ts'
import type { Served, ServedAs } from './target-server.ts'

export interface TargetServer {
  readonly pid: number | undefined
  readonly served: Served
  stop(): Promise<void>
}

/**
 * The HTTPS server of a local target, in a process of its own and with the flags and the environment of a control plane (its cache of code, in `code`, is there from its second start
 * on); ready when this resolves. One that `discards` takes every object, checks it, and keeps none.
 */
export async function startTargetServer(store: string, code: string, { discards = false } = {}): Promise<TargetServer> {
  const program = path.join(import.meta.dirname, 'target-server.ts')
  const args = discards ? [store, 'discard'] : [store]
  const env = { ...process.env, MALLOC_ARENA_MAX: '1', NODE_COMPILE_CACHE: code }
  const server = fork(program, args, { execArgv: ['--disable-warning=ExperimentalWarning', '--max-semi-space-size=2'], env })
  // a job's process imports this file too, and has no part in making certificates: 8 MB and a tenth of a second
  const { selfSigned } = await import('../../harness/certificate.ts')
  const { key, cert, sha256 } = await selfSigned()
  server.send({ key: key.reveal(), cert, sha256: sha256.toString('hex') } satisfies ServedAs)
  const [served] = (await once(server, 'message')) as [Served]
  const stop = async () => {
    const gone = once(server, 'exit')
    server.disconnect()
    await gone
  }
  return { pid: server.pid, served, stop }
}

/** The agent's transfer to that place, its addresses signed here instead of by a control plane. */
export async function transferTo(place: Place, backup: BackupPlaceRef): Promise<Transfer> {
  const target = await openPlace(place)
  const sent = ({
    headers,
    serverCertificateSha256 = Buffer.alloc(0),
    localSocket = '',
    ...address
  }: Awaited<ReturnType<typeof target.signGet>>) => ({
    ...address,
    headers: { ...headers },
    serverCertificateSha256,
    alreadyStored: false,
    localSocket,
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

async function openPlace(place: Place): Promise<StorageTarget> {
  const options = { name: 'primary', clock: systemClock }
  if (place.kind === 's3') {
    const { bucket, prefix, endpoint, region } = place
    // the agent has nothing of it
    const { openS3 } = await import('../../../shared/storage/s3/target.ts')
    const { AWS_ACCESS_KEY_ID: accessKeyId = '', AWS_SECRET_ACCESS_KEY: secret = '' } = process.env
    const credentials = { accessKeyId, secretAccessKey: new Secret(secret) }
    return openS3({ kind: 's3', bucket, prefix, endpoint, region, force_path_style: true }, { ...options, credentials })
  }
  const { folder, served } = place
  const signer = {
    baseUrl: `https://127.0.0.1:${served.port}`,
    key: new Secret(Buffer.from(served.key, 'hex')),
    serverCertificateSha256: Buffer.from(served.certificateSha256, 'hex'),
    socket: served.socket ?? undefined,
    clock: systemClock,
  }
  return openLocal(folder, { ...options, create: true, signer })
}
