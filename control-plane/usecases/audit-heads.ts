import { createPublicKey } from 'node:crypto'
import { readJson } from '../../shared/json.ts'
import { signedHead } from '../catalog/audit.ts'
import { isOurHead, type SignedHead, signedHeadSchema } from '../domain/audit-chain.ts'
import type { ControlPlane } from './control-plane.ts'

type Heads = Pick<ControlPlane, 'catalog' | 'clock' | 'fleet' | 'log' | 'settings' | 'target'>

/** No host's folder can have this name: hosts begin with a letter or digit. */
const FOLDER = '_audit/'
/** A year of hourly heads, the newest: what a check compares the trail with. */
const MAX_HEADS = 9000

/** With a part of the hash, which nobody can know before: an object put there in advance would keep the true head out. */
const headKey = (head: SignedHead): string => `${FOLDER}${String(head.sequence).padStart(15, '0')}-${head.hash.slice(0, 16)}.json`
/** Each head speaks for all entries before it, so the newest ones are enough. */
const LOCK_MS = 30 * 86_400_000
/** Far more than a head has. */
const MAX_HEAD_BYTES = 4096

/**
 * Puts the trail's signed head and length into the bucket: whoever truncates or rewrites the catalog's trail afterwards is found out. The
 * same head twice is one object. It is locked where the service can.
 */
export async function publishAuditHead(cp: Heads): Promise<void> {
  const head = await signedHead(cp.catalog.db, { fleetId: cp.fleet.id, signer: cp.fleet.signer, at: cp.clock.now() })
  if (head.sequence === 0) return
  const target = await cp.target(cp.settings.defaultTarget)
  if (await target.head(headKey(head))) return
  const lockUntil = new Date(cp.clock.now().getTime() + LOCK_MS)
  await target.put(headKey(head), Buffer.from(`${JSON.stringify(head)}\n`), { lockUntil })
}

/** The heads in the bucket that the fleet's key signed. What else lies there is not believed, and not an error of the trail. */
export async function publishedAuditHeads(cp: Heads): Promise<SignedHead[]> {
  const target = await cp.target(cp.settings.defaultTarget)
  const keys: string[] = []
  for await (const { key, size } of target.list(FOLDER)) if (size <= MAX_HEAD_BYTES) keys.push(key)
  const fleet = { fleetId: cp.fleet.id, verifyingKey: createPublicKey(cp.fleet.signer) }
  const heads: SignedHead[] = []
  for (const key of keys.slice(-MAX_HEADS)) {
    const parsed = readJson(await target.get(key), signedHeadSchema)
    if (parsed.success && isOurHead(parsed.data, fleet)) heads.push(parsed.data)
    else cp.log.warn({ object: key }, 'an audit head in the bucket is not the fleet’s')
  }
  return heads
}
