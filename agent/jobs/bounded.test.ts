import { describe, expect, it } from 'vitest'
import { restorePreviewSchema, testRestoreDetailSchema } from '../../shared/results.ts'
import { BoundedErrors, boundedCounts, boundedFindings, boundedPreview } from './bounded.ts'
import { wireResult } from './wire.ts'

/** A database of twenty thousand tables, with names as long and as wide as PostgreSQL takes them. */
const TABLES = 20_000
const table = (n: number) => `${'ü'.repeat(31)}.${String(n).padStart(6, '0')}${'語'.repeat(19)}`
const counts = (more: Record<string, number> = {}) => ({
  ...Object.fromEntries(Array.from({ length: TABLES }, (_, n) => [table(n), n])),
  ...more,
})
const attempt = { jobId: 'job', attempt: 1 }
const progress = { phase: '', readBytes: 0, storedBytes: 0, skippedBytes: 0, writtenBytes: 0, objectsDone: 0, objectsTotal: 0 }
const told = (detail: object) =>
  wireResult(attempt, {
    outcome: 'succeeded',
    error: null,
    detail,
    progress: { ...progress, totalBytes: 0, chunks: 0, chunksSkipped: 0 },
  }).detailJson

describe('an answer is small whatever the store holds', () => {
  it('a test restore lists what differs first, and sums up all of it', () => {
    const expected = { counts: counts(), facts: { version: '18' } }
    const found = { counts: counts({ [table(7_000)]: 1, strange: 2 }), facts: {} }
    const detail = testRestoreDetailSchema.parse({
      valid: false,
      ...boundedCounts(expected, found),
      findings: boundedFindings([]),
      seconds: 1,
    })
    const sum = (TABLES * (TABLES - 1)) / 2
    expect(detail.total).toEqual({ parts: TABLES + 1, not_listed: TABLES - 199, expected: sum, found: sum - 7_000 + 1 + 2 })
    expect(detail.expected.counts[table(7_000)]).toBe(7_000)
    expect(detail.found.counts).toMatchObject({ [table(7_000)]: 1, strange: 2 })
    expect(told(detail).length).toBeLessThan(256 * 1024)
  })

  it('a plan that makes and replaces everything, with a finding for each', () => {
    const all = Array.from({ length: TABLES }, (_, n) => table(n))
    const preview = boundedPreview({
      creates: all,
      replaces: all.map((what) => ({ what, size_bytes: 1, note: 'gone' })),
      bytes: 5,
      findings: [
        ...all.map((name) => ({ code: 'a', severity: 'warning', message: name.repeat(50), hint: name.repeat(50) }) as const),
        { code: 'b', severity: 'error', message: 'the one that decides' },
      ],
    })
    expect(restorePreviewSchema.parse(preview).findings[0]).toMatchObject({ code: 'b', severity: 'error' })
    expect(preview.creates.at(-1)).toBe(`${TABLES - 200} more`)
    expect(preview.findings.at(-1)?.message).toContain(`${TABLES + 1 - 200} more`)
    expect(Buffer.byteLength(told(preview))).toBeLessThan(1024 * 1024)
  })

  it('a verification counts every error and lists the first', () => {
    const errors = new BoundedErrors()
    for (const name of Object.keys(counts())) errors.add({ code: 'object_missing', key: name, message: 'it is not there' })
    expect(errors.count).toBe(TABLES)
    expect(errors.listed).toHaveLength(200)
  })

  it('one that is too large all the same is an error of the job, not a message that cannot be sent', () => {
    expect(() => told({ found: 'x'.repeat(2_000_000) })).toThrow(/too large/)
  })
})
