import path from 'node:path'
import { type CommandResult, tryCommand } from './commands.ts'
import { pypiPackages } from './pypi.ts'

/** Schemathesis of PyPI with all that it needs, for the Python that is here. Gives a function that runs its command line. */
export async function schemathesis(): Promise<(args: readonly string[], cwd: string) => Promise<CommandResult>> {
  const folder = await pypiPackages('schemathesis', path.join(import.meta.dirname, 'schemathesis.txt'))
  const env = { PYTHONPATH: folder, PYTHONDONTWRITEBYTECODE: '1', NO_COLOR: '1' }
  return (args, cwd) => tryCommand('python3', ['-m', 'schemathesis.cli', ...args], { cwd, env, timeoutMs: 900_000 })
}
