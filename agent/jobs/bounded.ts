import type { Finding, Fingerprint, RestorePreview, TestRestoreDetail, VerifyDetail } from '../../shared/results.ts'

/**
 * Answers are small whatever the store holds: a database may have a hundred thousand tables, and a lost bucket as many errors as it had objects.
 * What is left out is counted. Each stays well below what one message may hold (wire.ts).
 */

const LISTED = 200
const TEXT = 200

/** The parts whose counts differ first, then as many of the others as fit. */
export function boundedCounts(
  expected: Fingerprint,
  found: Fingerprint,
): Pick<TestRestoreDetail, 'total' | 'expected' | 'found'> {
  const parts = [...new Set([...Object.keys(expected.counts), ...Object.keys(found.counts)])]
  const differ = (part: string): number => (expected.counts[part] === found.counts[part] ? 1 : 0)
  const listed = new Set(
    parts
      .toSorted((a, b) => differ(a) - differ(b))
      .filter((part) => part.length <= TEXT)
      .slice(0, LISTED),
  )
  const only = ({ counts, facts }: Fingerprint): Fingerprint => ({
    counts: Object.fromEntries(Object.entries(counts).filter(([part]) => listed.has(part))),
    facts: Object.fromEntries(
      Object.entries(facts)
        .slice(0, LISTED)
        .map(([name, fact]) => [name.slice(0, TEXT), fact.slice(0, TEXT)]),
    ),
  })
  const total = {
    parts: parts.length,
    not_listed: parts.length - listed.size,
    expected: sum(expected.counts),
    found: sum(found.counts),
  }
  return { total, expected: only(expected), found: only(found) }
}

const sum = (counts: Fingerprint['counts']): number => Object.values(counts).reduce((total, count) => total + count, 0)

/** Errors first: they decide. */
export function boundedFindings(findings: readonly Finding[]): Finding[] {
  const errors = findings.filter(({ severity }) => severity === 'error')
  const others = findings.filter(({ severity }) => severity !== 'error')
  const listed = [...errors, ...others].slice(0, LISTED)
  const left = findings.length - listed.length
  const short = listed.map((finding) => ({
    ...finding,
    message: finding.message.slice(0, TEXT * 2),
    ...(finding.hint === undefined ? {} : { hint: finding.hint.slice(0, TEXT) }),
  }))
  if (left === 0) return short
  return [...short, { code: 'more_findings', severity: 'info', message: `${left} more findings are in the log of the job` }]
}

export function boundedPreview(preview: RestorePreview): RestorePreview {
  return {
    creates: boundedList(
      preview.creates,
      (text) => text.slice(0, TEXT),
      (left) => `${left} more`,
    ),
    replaces: boundedList(
      preview.replaces,
      (one) => ({ ...one, what: one.what.slice(0, TEXT), ...(one.note === undefined ? {} : { note: one.note.slice(0, TEXT) }) }),
      (left) => ({ what: `${left} more` }),
    ),
    bytes: preview.bytes,
    findings: boundedFindings(preview.findings),
  }
}

function boundedList<T>(items: readonly T[], short: (item: T) => T, more: (left: number) => T): T[] {
  const listed = items.slice(0, LISTED).map(short)
  return items.length > LISTED ? [...listed, more(items.length - LISTED)] : listed
}

/** Takes errors one by one; knows how many there were. */
export class BoundedErrors {
  readonly listed: VerifyDetail['errors'] = []
  #count = 0

  get count(): number {
    return this.#count
  }

  add(error: { readonly code: string; readonly key?: string | undefined; readonly message: string }): void {
    this.#count += 1
    if (this.listed.length >= LISTED) return
    this.listed.push({ code: error.code, object: error.key, message: error.message.slice(0, TEXT) })
  }
}
