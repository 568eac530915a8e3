import type { Commit, Manifest } from './manifest.ts'

export type HistoryCode =
  | 'sequence_duplicate'
  | 'sequence_gap'
  | 'predecessor_mismatch'
  | 'back_dated'
  | 'rolled_back'
  | 'wrong_place'

export interface HistoryFinding {
  readonly code: HistoryCode
  readonly id: string
  readonly message: string
}

/** What a manifest says about its place in its source's history; manifests themselves may be too large to hold all at once. */
export interface HistoryLink {
  readonly host: string
  readonly source: string
  readonly id: string
  readonly commit: Commit
  /** Hex, of `manifest.json`. */
  readonly sha256: string
}

export function linkOf({ facts, commit }: Manifest, sha256: Buffer): HistoryLink {
  return { host: facts.host, source: facts.source, id: facts.id, commit, sha256: sha256.toString('hex') }
}

export interface HistoryTrust {
  /** What the catalog, or another copy, says is the latest: without it a history that ends too early can't be told. */
  readonly latest?: { readonly sequence: number; readonly sha256: string }
  /** Sequence numbers of backups that were removed on purpose: gaps that are none. */
  readonly removed?: ReadonlySet<number>
}

/**
 * Compares the manifests of one source, each verified by itself, with each other: backups that were swapped, forged, back-dated or
 * rolled back do not fit between their neighbours. Gaps are what retention leaves: they are findings only where `removed` is given.
 */
export function verifyHistory(manifests: readonly HistoryLink[], trust: HistoryTrust = {}): HistoryFinding[] {
  const findings: HistoryFinding[] = []
  const add = (code: HistoryCode, link: HistoryLink, message: string) => findings.push({ code, id: link.id, message })
  const sorted = [...manifests].sort((a, b) => a.commit.sequence - b.commit.sequence)
  for (const [n, manifest] of sorted.entries()) {
    const { sequence, predecessor, committed_at } = manifest.commit
    if (stampOf(committed_at) < idStamp(manifest)) add('back_dated', manifest, 'it was committed before its id was given')
    if ((sequence === 1) !== (predecessor === null)) add('predecessor_mismatch', manifest, 'only the first has no predecessor')
    const before = sorted[n - 1]
    if (!before) {
      if (sequence > 1) gap(1, sequence, manifest)
      continue
    }
    if (sourceOf(before) !== sourceOf(manifest))
      add('wrong_place', manifest, `it is of ${sourceOf(manifest)}, others are of ${sourceOf(before)}`)
    if (before.commit.sequence === sequence) {
      add('sequence_duplicate', manifest, `${before.id} has the sequence number ${sequence} too`)
      continue
    }
    if (before.commit.sequence + 1 < sequence) gap(before.commit.sequence + 1, sequence, manifest)
    else if (predecessor !== before.sha256) add('predecessor_mismatch', manifest, `its predecessor is not ${before.id}`)
    const backwards = committed_at < before.commit.committed_at || idStamp(manifest) < idStamp(before)
    if (backwards) add('back_dated', manifest, `it comes after ${before.id} and has an earlier time`)
  }
  checkLatest()
  return findings

  function gap(from: number, to: number, next: HistoryLink): void {
    if (!trust.removed) return
    for (let missing = from; missing < to; missing++) {
      if (!trust.removed.has(missing)) add('sequence_gap', next, `the backup with the sequence number ${missing} is missing`)
    }
  }

  function checkLatest(): void {
    const { latest } = trust
    const last = sorted.at(-1)
    if (!latest || !last) return
    const same = sorted.find((manifest) => manifest.commit.sequence === latest.sequence)
    if (!same) add('rolled_back', last, `the history ends at ${last.commit.sequence}, it went up to ${latest.sequence}`)
    else if (same.sha256 !== latest.sha256) add('rolled_back', same, 'it is not the manifest that was committed')
  }
}

const sourceOf = ({ host, source }: HistoryLink): string => `${host}/${source}`
const idStamp = ({ id }: HistoryLink): string => id.slice(0, 15)
const stampOf = (time: string): string => new Date(time).toISOString().slice(0, 19).replace(/[-:]/g, '')
