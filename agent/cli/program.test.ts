import { CommanderError } from 'commander'
import { afterEach, expect, test, vi } from 'vitest'
import type { CliDeps } from './deps.ts'
import { agentProgram } from './program.ts'

afterEach(() => vi.restoreAllMocks())

test.each([
  ['an unknown command', ['nonsense']],
  ['a missing argument', ['recover', 'restore']],
  ['a missing option', ['recover', 'list']],
  ['an unknown option', ['source', 'list', '--nonsense']],
])('%s is told to whoever called, who ends with status 2', async (_name, words) => {
  vi.spyOn(process.stderr, 'write').mockReturnValue(true)
  const exit = vi.spyOn(process, 'exit').mockImplementation(() => {
    throw new Error('the program ended the process by itself')
  })
  await expect(agentProgram({} as CliDeps).parseAsync(words, { from: 'user' })).rejects.toBeInstanceOf(CommanderError)
  expect(exit).not.toHaveBeenCalled()
})
