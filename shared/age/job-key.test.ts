import { describe, expect, test } from 'vitest'
import { jobKeyFingerprint, sameFingerprint } from './job-key.ts'

const of = {
  jobId: 'j0123456789abcde',
  backupId: '20261121T020000Z-k7q2m4x9tb',
  recipient: 'age1qyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqs3290gq',
}

describe('the fingerprint of a job’s key', () => {
  test('is pinned: an agent and a command line of other versions show the same', () => {
    expect(jobKeyFingerprint(of)).toBe('5cbe-c344-6cd1-f778-bd61-1eef-6e70-54ac')
  })

  test('is another for another key, another job and another backup', () => {
    const others = [{ jobId: 'j1123456789abcde' }, { backupId: '20261121T020001Z-k7q2m4x9tb' }, { recipient: 'age1other' }]
    const all = [of, ...others.map((other) => ({ ...of, ...other }))].map(jobKeyFingerprint)
    expect(new Set(all).size).toBe(4)
  })

  test('is the same however it was copied, and nothing shorter is', () => {
    const shown = jobKeyFingerprint(of)
    expect(sameFingerprint(shown, ` ${shown.toUpperCase().replaceAll('-', ' ')}\n`)).toBe(true)
    expect(sameFingerprint(shown, `${shown.slice(0, -1)}${shown.endsWith('0') ? '1' : '0'}`)).toBe(false)
    expect(sameFingerprint(shown.slice(0, 9), shown)).toBe(false)
    expect(sameFingerprint('', '')).toBe(false)
    expect(sameFingerprint(shown.slice(0, 9), shown.slice(0, 9))).toBe(false)
  })
})
