import path from 'node:path'
import { cached } from './cache.ts'
import { type CommandResult, runCommand, tryCommand } from './commands.ts'

const VERSION = '4.32.5'

/** Schemathesis of PyPI with all that it needs, for the Python that is here. Gives a function that runs its command line. */
export async function schemathesis(): Promise<(args: readonly string[], cwd: string) => Promise<CommandResult>> {
  const python = (await runCommand('python3', ['-c', 'import sys; print("%d.%d" % sys.version_info[:2])'])).trim()
  const folder = await cached('schemathesis', `${VERSION}-python${python}`, async (draft) => {
    await runCommand('python3', [
      ...['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--only-binary=:all:'],
      ...['--target', draft, '-r', path.join(import.meta.dirname, 'schemathesis.txt')],
    ])
  })
  const env = { PYTHONPATH: folder, PYTHONDONTWRITEBYTECODE: '1', NO_COLOR: '1' }
  return (args, cwd) => tryCommand('python3', ['-m', 'schemathesis.cli', ...args], { cwd, env, timeoutMs: 300_000 })
}
