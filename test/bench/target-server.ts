import { randomBytes } from 'node:crypto'
import { startLocalServer } from '../../control-plane/storage/local-server.ts'
import { systemClock } from '../../shared/clock.ts'
import { createLogger } from '../../shared/log.ts'
import { Secret } from '../../shared/secret.ts'
import { openLocal } from '../../shared/storage/local/target.ts'
import { selfSigned } from '../harness/certificate.ts'

/** What who signs addresses of it has to know. */
export interface Served {
  readonly port: number
  /** Hex. */
  readonly key: string
  readonly certificateSha256: string
}

// The server of a local target as a control plane runs it, in a process of its own. Argument: the folder. Ends with its parent.
const key = randomBytes(32)
const certificate = await selfSigned()
const target = await openLocal(process.argv[2] ?? '', { name: 'primary', clock: systemClock, create: true })
const server = await startLocalServer({
  ...certificate,
  host: '127.0.0.1',
  port: 0,
  targets: [target],
  signingKey: new Secret(key),
  clock: systemClock,
  log: createLogger({ level: 'silent' }),
})
const served: Served = { port: server.port, key: key.toString('hex'), certificateSha256: certificate.sha256.toString('hex') }
process.send?.(served)
process.on('disconnect', () => process.exit())
