import { expect, test } from 'vitest'
import { homeNeeded, shownPath } from './print.ts'

test('paths are printed as one would type them: short in the folder itself, in full elsewhere', () => {
  expect(shownPath('/project/data', 'store', '/project')).toBe('data/store')
  expect(shownPath('/srv/try/data', 'store', '/project')).toBe('/srv/try/data/store')
})

test('the next command names the home wherever the command line would not find it by itself', () => {
  expect(homeNeeded('/project/data', 'operator', '/project')).toBe('')
  expect(homeNeeded('/project/other', 'operator', '/project')).toBe('HOLDFAST_HOME=/project/other ')
  expect(homeNeeded('/project/data', 'agent', '/project')).toBe('')
  expect(homeNeeded('/a b/other', 'agent', '/project')).toBe("HOLDFAST_AGENT_HOME='/a b/other/agent' ")
})
