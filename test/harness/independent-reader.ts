import path from 'node:path'
import { type CommandResult, runCommand, tryCommand } from './commands.ts'
import { pypiPackages } from './pypi.ts'

const FOLDER = path.resolve(import.meta.dirname, '..', 'independent-reader')

export type IndependentReader = (args: readonly string[]) => Promise<CommandResult>

/** test/independent-reader with its packages of PyPI: a function that runs its command line. */
export async function independentReader(): Promise<IndependentReader> {
  if (process.platform !== 'linux') throw new Error('it restores attributes of files that only Linux has')
  await runCommand('python3', [
    '-c',
    'import sys; sys.exit("Python 3.11 or later is needed" if sys.version_info < (3, 11) else 0)',
  ])
  const packages = await pypiPackages('independent-reader', path.join(FOLDER, 'requirements.txt'))
  const env = { PYTHONPATH: `${FOLDER}${path.delimiter}${packages}`, PYTHONDONTWRITEBYTECODE: '1' }
  return (args) => tryCommand('python3', ['-m', 'holdfast_reader', ...args], { env, timeoutMs: 300_000 })
}
