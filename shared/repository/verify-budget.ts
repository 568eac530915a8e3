/** Which packs a verification reads that has a budget. Pure. */

export interface VerifyBudget {
  /** Packs verified in less than this are not due. */
  readonly olderThanSeconds: number
  /** At most this part of the packs' bytes, above 0 and up to 1; but always one pack, so that every run gets on. */
  readonly share: number
  /** Only say what would be read. */
  readonly planOnly: boolean
  /** Undefined: never, as far as anybody knows. */
  verifiedSecondsAgo(backupId: string, pack: string): number | undefined
}

export interface PackToVerify {
  readonly backupId: string
  readonly name: string
  readonly size: number
}

/** Everything is read, and the runs are followed from pack to pack. */
export const isWhole = (budget: VerifyBudget): boolean => budget.olderThanSeconds === 0 && budget.share >= 1 && !budget.planOnly

/** Those that are due, the least recently verified first, as far as the share goes: runs one after the other come round to each. */
export function choosePacks<T extends PackToVerify>(packs: readonly T[], budget: VerifyBudget): T[] {
  const limit = budget.share >= 1 ? Number.POSITIVE_INFINITY : totalSize(packs) * budget.share
  const due = packs
    .map((pack) => ({ pack, ago: budget.verifiedSecondsAgo(pack.backupId, pack.name) ?? Number.POSITIVE_INFINITY }))
    .filter(({ ago }) => ago >= budget.olderThanSeconds)
    // equal ones keep their order; infinity less infinity is no number
    .sort((a, b) => (a.ago === b.ago ? 0 : b.ago - a.ago))
  let bytes = 0
  const beyond = due.findIndex(({ pack }, index) => {
    bytes += pack.size
    return index > 0 && bytes > limit
  })
  return (beyond < 0 ? due : due.slice(0, beyond)).map(({ pack }) => pack)
}

export const totalSize = (packs: readonly { readonly size: number }[]): number => packs.reduce((sum, pack) => sum + pack.size, 0)
