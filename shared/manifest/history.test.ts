import { createHash } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type HistoryLink, verifyHistory } from './history.ts'

const hash = (text: string) => createHash('sha256').update(text).digest('hex')

/** A right history of `length` backups, one a day. */
function history(length: number): HistoryLink[] {
  const links: HistoryLink[] = []
  for (let n = 1; n <= length; n++) {
    const day = new Date(Date.UTC(2026, 0, n, 2))
    const id = `${day.toISOString().slice(0, 19).replace(/[-:]/g, '')}Z-${String(n).padStart(10, '0')}`
    const committed_at = new Date(day.getTime() + 600_000).toISOString()
    const predecessor = links.at(-1)?.sha256 ?? null
    links.push({
      host: 'db1',
      source: 'app',
      id,
      commit: { fleet_id: 'f', committed_at, sequence: n, predecessor },
      sha256: hash(id),
    })
  }
  return links
}

const codes = (links: HistoryLink[], trust?: Parameters<typeof verifyHistory>[1]) =>
  verifyHistory(links, trust).map(({ code }) => code)
const change = (links: HistoryLink[], n: number, by: (link: HistoryLink) => HistoryLink) =>
  links.map((link, m) => (m === n ? by(link) : link))

describe('the history of a source', () => {
  test('a right one has no findings, in whatever order it is read, and with whatever retention removed', () => {
    const whole = history(12)
    fc.assert(
      fc.property(fc.shuffledSubarray(whole), (some) => {
        expect(verifyHistory(some)).toEqual([])
      }),
    )
  })

  test('a swapped manifest does not fit its neighbours', () => {
    const links = history(5)
    expect(codes(change(links, 2, (link) => ({ ...link, sha256: hash('other') })))).toEqual(['predecessor_mismatch'])
  })

  test('a forged manifest beside the right one shows as two with one number', () => {
    const links = history(5)
    const forged = { ...(links[2] as HistoryLink), id: '20260103T020000Z-zzzzzzzzzz', sha256: hash('forged') }
    expect(codes([...links, forged])).toContain('sequence_duplicate')
  })

  test('a back-dated manifest has an earlier time than the one before it, or than its own id', () => {
    const links = history(5)
    const early = change(links, 3, (link) => ({ ...link, commit: { ...link.commit, committed_at: '2026-01-01T00:00:00.000Z' } }))
    expect(codes(early)).toContain('back_dated')
    const oldId = change(links, 3, (link) => ({ ...link, id: '20251201T020000Z-0000000004' }))
    expect(codes(oldId)).toContain('back_dated')
  })

  test('a rolled-back store shows against what the catalog knows', () => {
    const links = history(5)
    const latest = { sequence: 5, sha256: (links[4] as HistoryLink).sha256 }
    expect(codes(links, { latest })).toEqual([])
    expect(codes(links.slice(0, 3), { latest })).toEqual(['rolled_back'])
    expect(codes(links, { latest: { ...latest, sha256: hash('other') } })).toEqual(['rolled_back'])
  })

  test('a gap is a finding only where what was removed is known', () => {
    const links = history(6).filter((_, n) => n !== 1 && n !== 3)
    expect(codes(links)).toEqual([])
    expect(codes(links, { removed: new Set([2]) })).toEqual(['sequence_gap'])
    expect(codes(links, { removed: new Set([2, 4]) })).toEqual([])
  })

  test('a manifest of another source has no place in it', () => {
    expect(codes(change(history(3), 1, (link) => ({ ...link, source: 'other' })))).toContain('wrong_place')
  })
})
