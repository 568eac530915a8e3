import { HoldfastError } from '../../shared/errors.ts'
import type { VerifyWork } from '../../shared/generated/holdfast/agent/v1/jobs.ts'
import type { VerifyBudget } from '../../shared/repository/verify-budget.ts'
import type { VerifyDetail } from '../../shared/results.ts'

/** Of a command that is foreign input: a share beyond the whole would read nothing in silence, so it is refused. */
export function budgetOf(work: VerifyWork): VerifyBudget {
  if (work.sharePermille > 1000) {
    throw new HoldfastError('invalid_argument', `a share of ${work.sharePermille} thousandths is more than the whole`)
  }
  const verified = new Map(
    work.verified.map(({ backupId, packs }) => [backupId, new Map(packs.map(({ name, secondsAgo }) => [name, secondsAgo]))]),
  )
  return {
    olderThanSeconds: work.olderThanSeconds,
    share: (work.sharePermille || 1000) / 1000,
    planOnly: work.planOnly,
    verifiedSecondsAgo: (backupId, pack) => verified.get(backupId)?.get(pack),
  }
}

/** Characters of one answer: with the errors beside it well below what one message may hold (wire.ts). Those of a hundred backups of 500 GB. */
const MOST = 512 * 1024

/**
 * One bit for each object, so that what was read of a backup of terabytes can be told in a few kilobytes. Backups beyond what one answer holds are left
 * out: their packs count as never verified, and are read once more.
 */
export function goodBits(good: ReadonlyMap<string, readonly number[]>): VerifyDetail['good'] {
  const told: VerifyDetail['good'] = []
  let left = MOST
  for (const [backup_id, numbers] of good) {
    const bits = Buffer.alloc(1 + (numbers.reduce((most, number) => Math.max(most, number), 0) >> 3))
    for (const number of numbers) bits.writeUInt8(bits.readUInt8(number >> 3) | (1 << (number & 7)), number >> 3)
    const one = { backup_id, objects: bits.toString('base64') }
    left -= JSON.stringify(one).length + 1
    if (left < 0) break
    told.push(one)
  }
  return told
}
