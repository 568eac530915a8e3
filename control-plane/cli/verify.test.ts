import { afterEach, describe, expect, test } from 'vitest'
import { BACKUP } from '../api/testing/fake-operations.ts'
import { ending, run, Served } from './testing.ts'

const served = new Served()
afterEach(() => served.close())

/** A verification that has ended so. */
const serve = (detail: object = {}) => served.start(ending('succeeded', { kind: 'verify', detail: { ...found, ...detail } }))

const packs = { needed: 40, needed_bytes: 2_000_000_000, chosen: 4, chosen_bytes: 200_000_000 }
const found = { valid: true, plan_only: false, bytes_checked: 200_100_000, objects_checked: 9, packs, errors: [] }
const request = () => served.calls.findLast(([name]) => name === 'startVerify')?.[2]

describe('verify', () => {
  test('has no budget unless one is given', async () => {
    await run(await serve(), ['verify', BACKUP])
    expect(request()).toEqual({ older_than_seconds: 0, share_percent: 100, dry_run: false })
  })

  test('passes its budget on in the units of the API', async () => {
    await serve()
    await run(served.url, ['verify', BACKUP, '--older-than', '30d', '--share', '2.5%', '--on', 'db2'])
    expect(request()).toEqual({ on: 'db2', older_than_seconds: 2_592_000, share_percent: 2.5, dry_run: false })
    for (const wrong of [
      ['--share', '0'],
      ['--share', '101%'],
      ['--share', 'half'],
      ['--older-than', '30'],
    ]) {
      expect((await run(served.url, ['verify', BACKUP, ...wrong])).status).toBe(2)
    }
  })

  test('says what the budget left out', async () => {
    const { out, status } = await run(await serve(), ['verify', BACKUP, '--share', '10%'])
    expect(out).toContain('only 4 of 40 packs, 200 MB of 2.0 GB: the others were left out by the budget')
    expect(status).toBe(0)
  })

  test('--plan shows what would be read and says that nothing was verified', async () => {
    const { out } = await run(await serve({ plan_only: true }), ['verify', BACKUP, '--share', '10%', '--plan'])
    expect(request()).toMatchObject({ dry_run: true })
    expect(out).toContain('reads     200 MB in 9 objects')
    expect(out).toContain('packs     4 of 40 packs, 200 MB of 2.0 GB')
    expect(out).toContain('only a plan: nothing was verified')
    expect(out).not.toContain('valid')
  })
})
