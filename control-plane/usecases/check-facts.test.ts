import { expect, it } from 'vitest'
import type { Facts } from '../../shared/manifest/manifest.ts'
import { checkFacts, type ExpectedFacts } from './check-facts.ts'

const sha = 'ab'.repeat(32)
const base = '20260101T000000Z-aaaaaaaaaa'

const facts: Facts = {
  format: 1,
  fleet_id: 'fleet',
  host: 'db1',
  source: 'app',
  engine: 'sqlite',
  id: '20260102T000000Z-bbbbbbbbbb',
  attempt: 2,
  type: 'incremental',
  objects: ['contents/2', 'index/2', 'keys/2', 'packs/2-0123456789abcdef'].map((name) => ({ name, size: 10, sha256: sha })),
  keys: [{ name: 'keys/2', attempt: 2, check: sha }],
  recipients: ['age1aaaaaaaaaaa'],
  leans_on: [{ host: 'db1', source: 'app', id: base, manifest_sha256: sha }],
  read_bytes: 1,
  stored_bytes: 1,
  total_count: 1,
}

const expected: ExpectedFacts = {
  fleetId: 'fleet',
  host: 'db1',
  source: 'app',
  engine: 'sqlite',
  id: facts.id,
  attempt: 2,
  type: 'incremental',
  recipients: facts.recipients,
  mayLeanOn: new Map([[base, sha]]),
  ledger: new Map(facts.objects.map((object) => [object.name, { size: 10, sha256: Buffer.from(sha, 'hex') }])),
}

it('accepts the backup that was told to be made, and a full in its place', () => {
  checkFacts(facts, expected)
  checkFacts({ ...facts, type: 'full', leans_on: [] }, expected)
})

it.each<[string, Partial<Facts>]>([
  ['another host', { host: 'db2' }],
  ['another source', { source: 'other' }],
  ['another id', { id: '20260102T000000Z-cccccccccc' }],
  ['another attempt', { attempt: 1 }],
  ['another fleet', { fleet_id: 'other' }],
  ['another engine', { engine: 'files' }],
  ['another kind', { type: 'differential' }],
  ['a recipient left out', { recipients: [] }],
  ['a recipient added', { recipients: ['age1aaaaaaaaaaa', 'age1bbbbbbbbbbb'] }],
  ['a base that the command did not name', { leans_on: [{ ...lean(), id: '20250101T000000Z-dddddddddd' }] }],
  ["a base's other manifest", { leans_on: [{ ...lean(), manifest_sha256: 'cd'.repeat(32) }] }],
  ["another host's base", { leans_on: [{ ...lean(), host: 'db2' }] }],
  ['a full that leans', { type: 'full' }],
  [
    'an object that was not asked for',
    { objects: [...facts.objects, { name: 'packs/2-fedcba9876543210', size: 1, sha256: sha }] },
  ],
  ['an object of another size', { objects: facts.objects.map((object) => ({ ...object, size: 11 })) }],
  ['an object of another hash', { objects: facts.objects.map((object) => ({ ...object, sha256: 'cd'.repeat(32) })) }],
  ['an object named twice', { objects: [...facts.objects, ...facts.objects] }],
  ['its key left out', { objects: facts.objects.filter((object) => object.name !== 'keys/2') }],
  ['its contents left out', { objects: facts.objects.filter((object) => object.name !== 'contents/2') }],
])('an agent cannot have %s believed', (_what, change) => {
  expect(() => checkFacts({ ...facts, ...change }, expected)).toThrow(/refused/)
})

function lean() {
  return { host: 'db1', source: 'app', id: base, manifest_sha256: sha }
}
