/** Constants of the wire contract that no message carries. */

/** Versions of the session protocol that this program speaks, both ends included. */
export const PROTOCOL_MIN = 1
export const PROTOCOL_MAX = 1

/** Largest message on the agents' listener: the facts of the largest backup, with room for what surrounds them. */
export const MAX_MESSAGE_BYTES = 80 * 1024 * 1024
/** Largest message on the enrolment listener. */
export const MAX_ENROLMENT_BYTES = 256 * 1024

/** What an agent signs to prove that it holds the key of an expired certificate. Bound to its purpose by the text before it. */
export function lateRenewalBytes(nonce: Buffer): Buffer {
  return Buffer.concat([Buffer.from('holdfast late renewal 1\0'), nonce])
}
