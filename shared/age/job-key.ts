import { createHash } from 'node:crypto'

/**
 * What a person compares before a job is given the keys of a backup: 128 bits over the job, the backup and the job's public key, as eight groups
 * of four hex digits. Both sides compute it themselves; whoever passes the key on can show no other key, job or backup under the same one.
 */
export function jobKeyFingerprint(of: { jobId: string; backupId: string; recipient: string }): string {
  const text = `holdfast job key 1\0${of.jobId}\0${of.backupId}\0${of.recipient}`
  const digits = createHash('sha256').update(text).digest('hex').slice(0, 32)
  return digits.match(/.{4}/g)?.join('-') ?? digits
}

/** As people copy it: capitals, blanks and other dashes mean nothing. */
export function sameFingerprint(a: string, b: string): boolean {
  const digits = (text: string) => text.toLowerCase().replace(/[^0-9a-f]/g, '')
  return digits(a) === digits(b) && digits(a).length === 32
}
