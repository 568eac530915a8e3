import { randomBytes, randomInt } from 'node:crypto'
import { HoldfastError } from './errors.ts'

/** Crockford's base 32 in lower case: no i, l, o, u. */
const ALPHABET = '0123456789abcdefghjkmnpqrstvwxyz'

/** `length` random base-32 characters, five bits each, from the system's generator. */
export function randomBase32(length: number): string {
  let out = ''
  for (const byte of randomBytes(length)) out += ALPHABET[byte & 31]
  return out
}

/** A random number from 0 (included) to 1 (left out), for jitter: the home of randomness that is not secret. */
export function randomFraction(): number {
  return randomInt(2 ** 32) / 2 ** 32
}

/** Host, source, target and policy names: they become folders and object keys. */
export const NAME = /^[a-z0-9][a-z0-9._-]{0,62}$/
export const BACKUP_ID = /^\d{8}T\d{6}Z-[0-9a-hjkmnp-tv-z]{10}$/
export const JOB_ID = /^j[0-9a-hjkmnp-tv-z]{15}$/

/** Returns the name, or throws `invalid_name` saying what is allowed. `what` is for example "source name". */
export function requireName(what: string, name: string): string {
  // "..": a folder up, once the name is part of a path
  if (NAME.test(name) && !name.includes('..')) return name
  throw new HoldfastError('invalid_name', `${what} ${JSON.stringify(name)} is not allowed`, {
    hint: 'Use 1 to 63 characters of a-z, 0-9, dot, underscore and hyphen, beginning with a letter or digit, without "..".',
  })
}

/** `YYYYMMDDTHHMMSSZ` of a time, in UTC. */
export function stamp(time: Date): string {
  return `${time.toISOString().slice(0, 19).replace(/[-:]/g, '')}Z`
}

/** `20261121T020000Z-k7q2m4x9tb`: the time is the control plane's. */
export function newBackupId(time: Date): string {
  return `${stamp(time)}-${randomBase32(10)}`
}

export function newJobId(): string {
  return `j${randomBase32(15)}`
}

/** Splits `host/name`, both checked. */
export function parseSourceName(full: string): { host: string; name: string } {
  const parts = full.split('/')
  if (parts.length !== 2) {
    throw new HoldfastError('invalid_name', `source ${JSON.stringify(full)} is not of the form host/name`, {
      hint: 'Name a source as host/name, for example db1/app.',
    })
  }
  return { host: requireName('host name', parts[0] ?? ''), name: requireName('source name', parts[1] ?? '') }
}
