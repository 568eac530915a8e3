/** Names that broke others: in arguments, statements, patterns, paths, formats. Each reaches a tool or a path somewhere. */
export const HOSTILE_NAMES: readonly string[] = [
  '-rf',
  '--version',
  "it's",
  'say "hi"',
  '`id`',
  '$(touch holdfast-pwned)',
  '${HOME}',
  '; touch holdfast-pwned;',
  '| touch holdfast-pwned',
  'two\nlines',
  'tab\tand\rreturn',
  '%s%n%d',
  '100%',
  '*?[a-z]',
  'back\\slash',
  ' blanks ',
  'ünïcødé-☃-𝔘-é',
  'drop table x; --',
  '#hash&amp',
  '~root',
  'CON',
  'a=b',
]

/** Names that may be no single segment of a path. */
export const ESCAPING_NAMES: readonly string[] = [
  '..',
  '.',
  '',
  '../holdfast-escaped',
  '../../holdfast-escaped',
  '/tmp/holdfast-escaped',
  'a/../../holdfast-escaped',
  'sub/folder',
  'nul\0byte',
]

export const VERY_LONG_NAME = 'x'.repeat(5000)
