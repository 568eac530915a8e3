import { existsSync } from 'node:fs'
import { symlink } from 'node:fs/promises'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { available } from './cache.ts'
import { type CommandResult, runCommand, tryCommand } from './commands.ts'
import { throwAwayFolder } from './folders.ts'
import { type ProcessOptions, type StartedProcess, startProcess } from './processes.ts'

const ROOT = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '')

/** The first command may install, which takes minutes where registry or processor are slow. */
export const INSTALLATION_MS = 1_200_000

/** A fresh clone of what is committed here, and what a person types in it: npm and npx, in an environment that knows nothing of this run. */
export interface Clone extends AsyncDisposable {
  readonly folder: string
  /** `npm start` installs what it needs, as on a new machine; else the packages of this checkout are linked in. */
  readonly installs: boolean
  start(args: readonly string[], ready: ProcessOptions['ready']): Promise<StartedProcess>
  /** The same on a terminal of its own, where `type` is the keyboard. Linux only. */
  startOnTerminal(args: readonly string[], ready: ProcessOptions['ready']): Promise<StartedProcess>
  run(command: string, args: readonly string[]): Promise<CommandResult>
  /** Process ids and command lines of what runs out of this folder, or in the group of `leader`. */
  processes(leader?: number): Promise<string[]>
}

/** Null where there is no repository to clone. 670 MB of packages are installed only where everything is required. */
export async function cloneHere(): Promise<Clone | null> {
  const folder = await available(
    'git and this repository',
    'download',
    () => existsSync(path.join(ROOT, '.git')),
    async () => {
      const made = await throwAwayFolder()
      await runCommand('git', ['clone', '--quiet', '--no-hardlinks', ROOT, path.join(made.path, 'holdfast')])
      return made
    },
  )
  if (!folder) return null
  const clone = path.join(folder.path, 'holdfast')
  const installs = await available(
    'an installation of our own',
    'build',
    () => false,
    async () => true,
  )
  if (!installs) await symlink(path.join(ROOT, 'node_modules'), path.join(clone, 'node_modules'))
  // in place of a folder in the home of who runs the tests
  const env = { ...personsEnvironment(), NODE_COMPILE_CACHE: path.join(folder.path, 'compiled') }
  return {
    folder: clone,
    installs: installs ?? false,
    start: (args, ready) => startProcess('npm', ['start', '--', ...args], { cwd: clone, env, ready, readyMs: 240_000 }),
    startOnTerminal: (args, ready) =>
      // exec: a shell in between dies of Ctrl-C, whatever npm ends with. No file that would keep the session
      startProcess('script', ['-qefc', ['exec', 'npm', 'start', '--', ...args].join(' '), '/dev/null'], {
        cwd: clone,
        env,
        ready,
        readyMs: 240_000,
        typed: true,
      }),
    run: (command, args) => tryCommand(command, args, { cwd: clone, env, exactEnvironment: true, timeoutMs: INSTALLATION_MS }),
    processes: (leader) => processesOf(folder.path, leader),
    [Symbol.asyncDispose]: () => folder.remove(),
  }
}

/** npm hands its settings down by environment, and the test run its own: a person's shell has neither. */
function personsEnvironment(): Record<string, string> {
  const ours = /^(npm_|HOLDFAST_|VITEST|NODE_ENV$|NODE_OPTIONS$|NODE_COMPILE_CACHE$|INIT_CWD$)/i
  const kept = Object.entries(process.env).filter(([name, value]) => value !== undefined && !ours.test(name))
  return Object.fromEntries(kept) as Record<string, string>
}

async function processesOf(folder: string, leader = -1): Promise<string[]> {
  const lines = (await runCommand('ps', ['-ww', '-eo', 'pid=,pgid=,stat=,args='])).split('\n').map((line) => line.trim())
  return lines.filter((line) => {
    const [pid = '', group = '', state = '', ...command] = line.split(/\s+/)
    const mine = Number(group) === leader || command.join(' ').includes(folder)
    return pid !== '' && mine && !state.startsWith('Z')
  })
}
