import { expect, test } from 'vitest'
import { readYaml } from './yaml.ts'

const read = (text: string, aliases?: number) => readYaml({ name: 'a.yaml', text, aliases })

test('what is wrong is said on one line, with its place and without the lines of the file, where a password may stand', () => {
  const text = 'sources:\n  app:\n    password: hunter2\n    url: a: b\n'
  const message = 'a.yaml is not valid YAML: line 4, column 10: Nested mappings are not allowed in compact mappings'
  expect(() => read(text)).toThrow(expect.objectContaining({ code: 'invalid_config', message }))
})

test('keys that come twice are refused, and so are aliases unless they are allowed', () => {
  expect(() => read('a: 1\na: 2')).toThrow('line 2, column 1: Map keys must be unique')
  const aliased = 'a: &x [1]\nb: *x'
  expect(() => read(aliased)).toThrow(/aliases .* not allowed/)
  expect(read(aliased, 10)).toEqual({ a: [1], b: [1] })
  expect(() => read('a: *x', 10)).toThrow(expect.objectContaining({ code: 'invalid_config' }))
})
