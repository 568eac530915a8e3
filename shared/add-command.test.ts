import { execFileSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { addCommand, sourceNameFor } from './add-command.ts'

const found = { engine: 'postgres', title: 'x', facts: {}, findings: [] }

test.each(['app', 'my app', "o'brien", '$(touch x)', 'ä\n', '-x', 'a&b?c;d|e'])(
  'a shell reads what is to be pasted as it is: %j',
  (odd) => {
    const line = addCommand({ ...found, name: 'app', add: ['--url', odd] })
    const words = execFileSync('bash', ['-c', `printf '%s\\0' ${line}`])
      .toString()
      .split('\0')
    expect(words).toEqual(['holdfast-agent', 'source', 'add', 'app', '--url', odd, ''])
  },
)

test('a name is left to the person where none can be made', () => {
  expect(addCommand({ ...found, add: [] })).toBe('holdfast-agent source add NAME')
  expect(addCommand({ ...found, name: 'app', add: [] }, '/srv/a b')).toBe("holdfast-agent --home '/srv/a b' source add app")
  expect(['App', '-my db..1', 'ä', '..'].map(sourceNameFor)).toEqual(['app', 'my-db.1', undefined, undefined])
})
