import type { BackupType } from './job-spec.ts'

/** What a backup leans on, and when it stops leaning. Rules of FORMAT.md, "What an incremental leans on". Pure. */

export interface BaseCandidate {
  readonly id: string
  readonly type: BackupType
  readonly createdAt: Date
  /** `retired`: expired as a backup, there only as a base. */
  readonly state: 'good' | 'retired' | 'gone'
  /** Chosen parts of the source; empty: the whole. */
  readonly parts: readonly string[]
  /** Its copy on the target of the new backup is whole, but perhaps for packs that are listed as damaged. */
  readonly onTarget: boolean
  /** Contents, index or keys are damaged: nothing can be looked up in it. Damaged packs do not count. */
  readonly unreadable: boolean
  readonly recipients: readonly string[]
  readonly leansOn: readonly string[]
}

export type FullReason = 'no_good_backup' | 'no_full_backup' | 'base_on_other_target' | 'base_damaged' | 'base_recipients_differ'

export interface BaseChoice {
  /** What is really made. */
  readonly type: BackupType
  readonly baseId: string | null
  /** The base and everything that it leans on: all of it may be leaned on by the new backup. */
  readonly leanedOn: readonly string[]
  /** Why it is a full although something smaller was asked for. */
  readonly reason: FullReason | null
}

export interface BaseQuestion {
  readonly type: BackupType
  readonly parts: readonly string[]
  /** Who has to be able to open the new backup, and so everything that it leans on. */
  readonly recipients: readonly string[]
  /** Who must not be able to open any of it. */
  readonly withheldFrom: readonly string[]
  /** All backups of the source, in any order. */
  readonly candidates: readonly BaseCandidate[]
}

/** `full`: nothing. `differential`: the last full. `incremental`: the last good backup. */
export function chooseBase(question: BaseQuestion): BaseChoice {
  const full = (reason: FullReason | null): BaseChoice => ({ type: 'full', baseId: null, leanedOn: [], reason })
  if (question.type === 'full') return full(null)
  const usable = question.candidates
    .filter((candidate) => candidate.state !== 'gone' && sameParts(candidate.parts, question.parts))
    .sort(newestFirst)
  const last = usable.find((candidate) => candidate.state === 'good')
  if (!last) return full('no_good_backup')
  // a retired full is as whole as ever, having leaned on nothing; a retired incremental is only a store of chunks
  const base = question.type === 'differential' ? usable.find((candidate) => candidate.type === 'full') : last
  if (!base) return full('no_full_backup')
  const all = withLeans(base, question.candidates)
  // a base that itself leans on something lost or removed would make a backup that can never be restored
  if (all === null || all.some((candidate) => candidate.state === 'gone' || candidate.unreadable)) return full('base_damaged')
  if (all.some((candidate) => !candidate.onTarget)) return full('base_on_other_target')
  if (!all.every((candidate) => sealedAlike(candidate, question))) return full('base_recipients_differ')
  return { type: question.type, baseId: base.id, leanedOn: all.map((candidate) => candidate.id), reason: null }
}

/** Every recipient of the new backup opens it, and nobody from whom that is withheld: a block leaned on is a block of the backup. */
function sealedAlike(candidate: BaseCandidate, { recipients, withheldFrom }: BaseQuestion): boolean {
  return (
    recipients.every((recipient) => candidate.recipients.includes(recipient)) &&
    !withheldFrom.some((recipient) => candidate.recipients.includes(recipient))
  )
}

function withLeans(base: BaseCandidate, candidates: readonly BaseCandidate[]): BaseCandidate[] | null {
  const leaned = base.leansOn.map((id) => candidates.find((candidate) => candidate.id === id))
  return leaned.every((candidate) => candidate !== undefined) ? [base, ...leaned] : null
}

/** Newest first; the id decides between two of one moment, so that every control plane chooses the same. */
function newestFirst(a: BaseCandidate, b: BaseCandidate): number {
  return b.createdAt.getTime() - a.createdAt.getTime() || (a.id < b.id ? 1 : -1)
}

export function sameParts(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && [...a].sort().join('\0') === [...b].sort().join('\0')
}

/** How many backups may be leaned on before an incremental begins to send old chunks again. */
export const LEAN_LIMIT = 14
/** Share of the source that an incremental may send again: 5 %. */
export const RESEND_PERMILLE = 50

/**
 * The backups whose chunks an incremental stores again, in this order, up to `RESEND_PERMILLE` of the source. Without it a
 * year of daily incrementals leans on 366 backups and holds 4.65 times the space. Differentials never do: each leans
 * on one full only.
 */
export function chooseResend(
  type: BackupType,
  leanedOn: readonly { readonly id: string; readonly createdAt: Date; readonly retired: boolean }[],
): string[] {
  if (type !== 'incremental') return []
  const oldestFirst = [...leanedOn].sort((a, b) => a.createdAt.getTime() - b.createdAt.getTime() || (a.id < b.id ? -1 : 1))
  return oldestFirst.filter((base) => leanedOn.length > LEAN_LIMIT || base.retired).map((base) => base.id)
}
