import { describe, expect, test } from 'vitest'
import { diffFleetFile, parseFleetFile } from './fleet-file.ts'
import { policySchema, selectsSource } from './policy.ts'

const databases = {
  select: { engine: ['postgres'], labels: { env: 'production' } },
  schedule: { full: '0 2 * * 0', incremental: '0 2 * * 1-6', timezone: 'Europe/Berlin', window: '4h', jitter: '10m' },
  targets: ['primary'],
  retention: { duration: '30d', daily: 7, weekly: 4, monthly: 12, yearly: 5, min_verified: 2 },
  verify: { validate: 'always' },
  limits: { parallel_jobs: 2, upload: '100MB/s' },
}
const file = { targets: { primary: { kind: 'local', path: '/srv/backups' } }, policies: { databases } }

test('a policy of the documentation is accepted, its units resolved, and reading the kept form changes nothing', () => {
  const policy = policySchema.parse(databases)
  expect(policy).toMatchObject({
    schedule: { window: 14_400, jitter: 600 },
    retention: { duration: 2_592_000 },
    limits: { upload: 100_000_000 },
  })
  expect(policySchema.parse(JSON.parse(JSON.stringify(policy)))).toEqual(policy)
})

test.each([
  ['an unknown key', { ...databases, retentoin: {} }, 'retentoin'],
  ['an unknown key inside', { ...databases, retention: { dayly: 7 } }, 'dayly'],
  ['what this version does not do', { ...databases, verify: { test_restore: 'weekly' } }, 'test_restore'],
  ['a second target', { ...databases, targets: ['primary', 'secondary'] }, 'targets: name one target'],
  ['no target', { ...databases, targets: [] }, 'targets: name one target'],
  ['an objective', { ...databases, objectives: { recovery_point: '24h' } }, 'objectives'],
  ['a rate in bits', { ...databases, limits: { upload: '100Mb/s' } }, 'limits.upload'],
  ['a duration without unit', { ...databases, retention: { duration: '30' } }, 'retention.duration'],
  ['a schedule that is never due', { ...databases, schedule: { full: '0 2 31 2 *' } }, 'schedule.full'],
  ['a schedule of nothing', { ...databases, schedule: { timezone: 'UTC' } }, 'schedule'],
  [
    'a jitter beyond the window',
    { ...databases, schedule: { full: '0 2 * * *', window: '5m', jitter: '10m' } },
    'schedule.jitter',
  ],
  ['a target that the file does not have', { ...databases, targets: ['primry'] }, 'primry'],
])('%s is refused by name', (_, policy, named) => {
  expect(() => parseFleetFile({ ...file, policies: { databases: policy } })).toThrow(
    expect.objectContaining({ code: 'invalid_config', message: expect.stringContaining(named) }),
  )
})

test.each([
  ['schedule', { full: '0 2 * * *', incremental: '0 3 * * *' }],
  ['limits', { windows: [{ from: '08:00', to: '18:00', upload: '1MB/s' }] }],
])(
  'a time zone that is none is named itself, with an example, and the %s that is written in it is not blamed',
  (section, what) => {
    const policy = { ...databases, [section]: { ...what, timezone: 'Mars/Olympus' } }
    const message = `fleet file: policies.databases.${section}.timezone: "Mars/Olympus" is no time zone: write one such as Europe/Berlin`
    expect(() => parseFleetFile({ ...file, policies: { databases: policy } })).toThrow(expect.objectContaining({ message }))
  },
)

describe('of the spellings of older files', () => {
  const { retention: _, ...without } = databases
  const parse = (policy: object) => parseFleetFile({ ...file, policies: { databases: policy } })

  test('retention_policy is retention, also in what is compared and kept', () => {
    const counts = { daily: 7, weekly: 4, monthly: 12, yearly: 5 }
    const older = parse({ ...without, retention_policy: counts })
    expect(older).toEqual(parse({ ...without, retention: counts }))
    const state = { targets: file.targets, policies: { databases: policySchema.parse({ ...without, retention: { daily: 3 } }) } }
    expect(diffFleetFile(older, state).flatMap(({ fields }) => fields.map(({ path }) => path))).toEqual([
      'retention.daily',
      'retention.monthly',
      'retention.weekly',
      'retention.yearly',
    ])
  })

  test.each([
    ['beside retention', { retention_policy: { daily: 7 } }, 'databases.retention_policy: is the older spelling of retention'],
    ['with more than the four counts', { retention: undefined, retention_policy: { last: 7 } }, 'databases.retention_policy: '],
    ['with a count that is none', { retention: undefined, retention_policy: { daily: '7' } }, 'retention_policy.daily: '],
    ['as no counts at all', { retention: undefined, retention_policy: null }, 'databases.retention_policy: '],
  ])('retention_policy %s is refused under its own name', (_what, policy, message) => {
    expect(() => parse({ ...databases, ...policy })).toThrow(message)
  })

  test('parallel_workers, which no policy decides, is refused with the settings that do, beside what else is wrong', () => {
    const parsing = () => parse({ ...databases, parallel_workers: 4, retentoin: {} })
    expect(parsing).toThrow(/databases\.parallel_workers: .*setting parallel, in agent\.yaml.*limits\.parallel_jobs/)
    expect(parsing).toThrow('retentoin')
  })
})

test('a schedule of verification is refused, with the reason, for a policy that leaves the fleet’s recipient out', () => {
  const parse = (policy: object) => () => parseFleetFile({ ...file, policies: { databases: { ...databases, ...policy } } })
  expect(parse({ recipients: 'recovery' })()).toMatchObject({ policies: { databases: { recipients: 'recovery' } } })
  expect(parse({})()).toMatchObject({ policies: { databases: { recipients: 'all' } } })
  const scheduled = { verify: { validate: 'always', test_restore: 'weekly' } }
  const reason = 'neither verified nor test-restored on a schedule'
  expect(parse({ recipients: 'recovery', ...scheduled })).toThrow(reason)
  expect(parse(scheduled)).not.toThrow(reason)
  expect(parse({ recipients: 'offline' })).toThrow('recipients')
})

test.each(['sets', 'plans', 'schedules'])('a section that this version does not have is refused by name: %s', (section) => {
  expect(() => parseFleetFile({ ...file, [section]: {} })).toThrow(
    expect.objectContaining({ code: 'invalid_config', message: expect.stringContaining(section) }),
  )
})

describe('a policy selects', () => {
  const source = { host: 'db1', name: 'app', engine: 'postgres', labels: { env: 'production' } }
  test.each([
    [{}, true],
    [{ engine: ['postgres', 'sqlite'] }, true],
    [{ engine: ['sqlite'] }, false],
    [{ labels: { env: 'production' } }, true],
    [{ labels: { env: 'test' } }, false],
    [{ labels: { constructor: 'x' } }, false],
    [{ sources: ['db*/app'] }, true],
    [{ sources: ['*/other'] }, false],
    // written out and empty: none, not all
    [{ sources: [] }, false],
    [{ engine: ['postgres'], labels: { env: 'test' } }, false],
  ])('by every condition: %j', (select, expected) => {
    expect(selectsSource(select, source)).toBe(expected)
  })
})

test('a difference names what is made, changed and removed, in an order that can be applied', () => {
  const parsed = parseFleetFile(file)
  const state = {
    targets: { old: { kind: 'local', path: '/old' } },
    policies: {
      databases: policySchema.parse({ ...databases, retention: { daily: 3 } }),
      gone: policySchema.parse({ targets: ['old'] }),
    },
  }
  const changes = diffFleetFile(parsed, state)
  expect(changes.map((change) => `${change.action} ${change.kind} ${change.name}`)).toEqual([
    'create target primary',
    'update policy databases',
    'delete policy gone',
    'delete target old',
  ])
  expect(changes[1]?.fields).toContainEqual({ path: 'retention.daily', from: 3, to: 7 })
  expect(diffFleetFile(parsed, { targets: parsed.targets ?? {}, policies: parsed.policies ?? {} })).toEqual([])
  expect(diffFleetFile(parseFleetFile({}), state)).toEqual([])
})
