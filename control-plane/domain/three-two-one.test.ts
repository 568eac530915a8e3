import { expect, it } from 'vitest'
import { threeTwoOne } from './three-two-one.ts'

it.each([
  [[], { copies: 1, kinds: 1, elsewhere: 0, met: false }],
  [['local'], { copies: 2, kinds: 1, elsewhere: 0, met: false }],
  [['s3'], { copies: 2, kinds: 2, elsewhere: 1, met: false }],
  [['local', 'local'], { copies: 3, kinds: 1, elsewhere: 0, met: false }],
  [['local', 's3'], { copies: 3, kinds: 2, elsewhere: 1, met: true }],
  [['s3', 's3'], { copies: 3, kinds: 2, elsewhere: 2, met: true }],
])('copies on %j', (targets, expected) => {
  expect(threeTwoOne(targets)).toEqual(expected)
})
