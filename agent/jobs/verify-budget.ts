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

/** One bit for each object, so that what was read of a backup of terabytes can be told in a few kilobytes. */
export function goodBits(good: ReadonlyMap<string, readonly number[]>): VerifyDetail['good'] {
  return [...good].map(([backupId, numbers]) => {
    const bits = Buffer.alloc(1 + (numbers.reduce((most, number) => Math.max(most, number), 0) >> 3))
    for (const number of numbers) bits.writeUInt8(bits.readUInt8(number >> 3) | (1 << (number & 7)), number >> 3)
    return { backup_id: backupId, objects: bits.toString('base64') }
  })
}
