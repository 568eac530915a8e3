import { randomBytes } from 'node:crypto'
import { type Clock, systemClock } from '../../shared/clock.ts'
import { createLogger } from '../../shared/log.ts'
import { Secret } from '../../shared/secret.ts'
import { type ContractSubject, storageTargetContract } from '../../shared/storage/contract.ts'
import { openLocal } from '../../shared/storage/local/target.ts'
import { selfSigned } from '../../test/harness/certificate.ts'
import { startFaultProxy } from '../../test/harness/fault-proxy.ts'
import { throwAwayFolder } from '../../test/harness/folders.ts'
import { startLocalServer } from './local-server.ts'

async function prepare(): Promise<ContractSubject> {
  const folder = await throwAwayFolder()
  const certificate = await selfSigned()
  const signingKey = new Secret(randomBytes(32))
  let aheadMs = 0
  const clock: Clock = { ...systemClock, now: () => new Date(systemClock.now().getTime() + aheadMs) }
  const log = createLogger({ level: 'silent' })
  const plain = await openLocal(folder.path, { name: 'primary', clock, create: true })
  const options = { ...certificate, host: '127.0.0.1', port: 0, targets: [plain], signingKey, clock, log }
  const server = await startLocalServer(options)
  const upstream = `https://127.0.0.1:${server.port}`
  const proxy = await startFaultProxy({ upstream, tls: certificate })
  const open = (baseUrl: string) =>
    openLocal(folder.path, {
      name: 'primary',
      clock,
      create: true,
      signer: { baseUrl, key: signingKey, serverCertificateSha256: certificate.sha256, clock },
    })
  return {
    target: await open(upstream),
    faulty: { target: await open(proxy.origin), proxy: proxy as never },
    ownCallsPassProxy: false,
    shortLived: async () => ({
      target: await open(upstream),
      expire: async () => {
        aheadMs += 15 * 60 * 1000
      },
    }),
    close: async () => {
      await proxy.stop()
      await server.close()
      await folder.remove()
    },
  }
}

storageTargetContract('local folder behind its HTTPS server', prepare)
