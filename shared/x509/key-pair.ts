import { KeyObject } from 'node:crypto'

/** What every key of a fleet's certificates is. */
export const ECDSA = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const

export async function newKeyPair(): Promise<{ publicKey: KeyObject; privateKey: KeyObject }> {
  const pair = await crypto.subtle.generateKey(ECDSA, true, ['sign', 'verify'])
  return { publicKey: KeyObject.from(pair.publicKey), privateKey: KeyObject.from(pair.privateKey) }
}
