import { describe, expect, test } from 'vitest'
import { type Limits, limitsAt, limitsSchema } from './limits.ts'

const parse = (value: object): Limits => limitsSchema.parse(value)
const upload = (value: object, at: string) => limitsAt([parse(value)], new Date(at)).uploadBytesPerSecond

const office = {
  upload: '100MB/s',
  windows: [
    { from: '08:00', to: '18:00', days: ['mon', 'tue', 'wed', 'thu', 'fri'], upload: '10MB/s' },
    { from: '22:00', to: '06:00', days: ['fri'], upload: 'unlimited', download: '50MB/s' },
  ],
  timezone: 'Europe/Berlin',
}

test('rates are bytes a second, and reading the kept form changes nothing', () => {
  const limits = parse(office)
  expect(limits).toMatchObject({ upload: 100_000_000, windows: [{ upload: 10_000_000 }, { upload: 'unlimited' }] })
  expect(parse(JSON.parse(JSON.stringify(limits)))).toEqual(limits)
})

describe('a window', () => {
  test.each([
    ['2026-11-20T06:59:00Z', 100_000_000, 'it is a minute to eight in Berlin'],
    ['2026-11-20T07:00:00Z', 10_000_000, 'it begins with its minute'],
    ['2026-11-20T16:59:59Z', 10_000_000, 'it holds to its last second'],
    ['2026-11-20T17:00:00Z', 100_000_000, 'it is over at its end'],
    ['2026-11-21T09:00:00Z', 100_000_000, 'a Saturday is not among its days'],
    ['2026-07-20T06:30:00Z', 10_000_000, 'in summer Berlin is two hours ahead'],
    ['2026-11-20T21:00:00Z', null, 'it lifts a rate'],
    ['2026-11-21T04:59:00Z', null, 'past midnight it belongs to the day on which it began'],
    ['2026-11-21T21:30:00Z', 100_000_000, 'on the next evening it does not begin'],
  ])('is by the time of day in its time zone: at %s the rate is %s: %s', (at, rate, _why) => {
    expect(upload(office, at)).toBe(rate)
  })

  test('leaves a rate that it does not name as it is', () => {
    const limits = parse({ ...office, download: '60MB/s' })
    expect(limitsAt([limits], new Date('2026-11-20T10:00:00Z')).downloadBytesPerSecond).toBe(60_000_000)
    expect(limitsAt([limits], new Date('2026-11-20T23:00:00Z')).downloadBytesPerSecond).toBe(50_000_000)
  })

  test('that begins in the hour which daylight saving skips begins after it', () => {
    const night = { windows: [{ from: '02:30', to: '04:00', upload: '1MB/s' }], timezone: 'Europe/Berlin' }
    expect(upload(night, '2026-03-29T00:59:00Z')).toBeNull()
    expect(upload(night, '2026-03-29T01:00:00Z')).toBe(1_000_000)
    expect(upload(night, '2026-03-29T02:00:00Z')).toBeNull()
  })

  test('of a whole day is from 00:00 to 24:00, and in UTC unless told', () => {
    const sunday = { windows: [{ from: '00:00', to: '24:00', days: ['sun'], upload: '1MB/s' }] }
    expect(upload(sunday, '2026-11-21T23:59:59Z')).toBeNull()
    expect(upload(sunday, '2026-11-22T00:00:00Z')).toBe(1_000_000)
    expect(upload(sunday, '2026-11-22T23:59:59Z')).toBe(1_000_000)
  })
})

test('of several policies the strictest holds, each limit for itself', () => {
  const all = [
    parse({ upload: '5MB/s', processor: 'normal' }),
    parse({ upload: '2MB/s', download: '9MB/s', disk: 'low' }),
    parse({ disk: 'idle', parallel_jobs: 1 }),
  ]
  expect(limitsAt(all, new Date())).toEqual({
    uploadBytesPerSecond: 2_000_000,
    downloadBytesPerSecond: 9_000_000,
    processor: 'normal',
    disk: 'idle',
  })
})

test('without a word about it nothing is held back, and jobs yield the processor', () => {
  const nothing = { uploadBytesPerSecond: null, downloadBytesPerSecond: null, processor: 'low', disk: 'normal' }
  expect(limitsAt([], new Date())).toEqual(nothing)
  expect(limitsAt([parse({ parallel_jobs: 3 })], new Date())).toEqual(nothing)
})

test.each([
  [{ upload: '100Mb/s' }, 'bytes a second'],
  [{ upload: '100' }, 'is not understood: Write a number'],
  [{ upload: '100KB/s' }, 'at least 500KB/s'],
  [{ download: 0 }, 'at least 500KB/s'],
  [{ upload: 'unlimited' }, 'not understood'],
  [{ speed: '1MB/s' }, 'speed'],
  [{ windows: [{ from: '8:00', to: '18:00', upload: '1MB/s' }] }, '00:00 to 24:00'],
  [{ windows: [{ from: '08:00', to: '25:00', upload: '1MB/s' }] }, '00:00 to 24:00'],
  [{ windows: [{ from: '08:00', to: '08:00', upload: '1MB/s' }] }, 'different times'],
  [{ windows: [{ from: '24:00', to: '08:00', upload: '1MB/s' }] }, 'different times'],
  [{ windows: [{ from: '08:00', to: '18:00' }] }, 'give a rate'],
  [{ windows: [{ from: '08:00', to: '18:00', upload: 'none' }] }, 'Or say unlimited'],
  [{ windows: [{ from: '08:00', to: '18:00', upload: '1MB/s', days: ['monday'] }] }, 'mon'],
  [{ windows: [{ from: '08:00', to: '18:00', upload: '1MB/s' }], timezone: 'Berlin' }, 'is no time zone'],
  [{ upload: '1MB/s', timezone: 'Europe/Berlin' }, 'there are none'],
  [{ processor: 'nice' }, 'lowest'],
  [{ disk: 'slow' }, 'idle'],
])('%j is refused, and says why', (limits, why) => {
  const { error } = limitsSchema.safeParse(limits)
  expect(error?.message).toContain(why)
})
