import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import path from 'node:path'
import { startLocalServer } from '../../../control-plane/storage/local-server.ts'
import { systemClock } from '../../../shared/clock.ts'
import { giveBack } from '../../../shared/give-back.ts'
import { createLogger } from '../../../shared/log.ts'
import { Secret } from '../../../shared/secret.ts'
import { leaveSpareMemory } from '../../../shared/spare-memory.ts'
import type { Placement } from '../../../shared/storage/local/place.ts'
import { LocalTarget, openLocal } from '../../../shared/storage/local/target.ts'

/** What who signs addresses of it has to know. */
export interface Served {
  readonly port: number
  /** Its Unix socket: job and server are on one host. */
  readonly socket: string | null
  /** Hex. */
  readonly key: string
  readonly certificateSha256: string
}

/** Its certificate, sent by who starts it: what makes one is none of the server's memory. */
export interface ServedAs {
  readonly key: string
  readonly cert: string
  /** Hex, of the DER. */
  readonly sha256: string
}

/** For more than the disk holds. */
class DiscardingTarget extends LocalTarget {
  override async putStream(_key: string, body: AsyncIterable<Buffer>, to: Placement): Promise<'stored' | 'same'> {
    const hash = createHash('sha256')
    for await (const piece of body) {
      hash.update(piece)
      giveBack(piece)
    }
    if (!hash.digest().equals(to.sha256)) throw new Error('the body is not what was signed')
    return 'stored'
  }
}

// The server of a local target as a control plane runs it, in a process of its own. Arguments: the folder, `discard`. Ends with its parent.
const [, , folder = '', discard] = process.argv
const key = randomBytes(32)
const [certificate] = (await once(process, 'message')) as [ServedAs]
const options = { name: 'primary', clock: systemClock, create: true }
const target = discard ? new DiscardingTarget(folder, options) : await openLocal(folder, options)
const server = await startLocalServer({
  key: new Secret(certificate.key),
  cert: certificate.cert,
  host: '127.0.0.1',
  port: 0,
  socketFolder: path.dirname(folder),
  targets: [target],
  signingKey: new Secret(key),
  clock: systemClock,
  log: createLogger({ level: 'silent' }),
})
const served: Served = {
  port: server.port,
  socket: server.socket,
  key: key.toString('hex'),
  certificateSha256: certificate.sha256,
}
leaveSpareMemory()
process.send?.(served)
process.on('disconnect', () => process.exit())
