import { spawn } from 'node:child_process'

export interface CommandOptions {
  readonly cwd?: string
  /** Added to this process's own environment. */
  readonly env?: Readonly<Record<string, string>>
  /** `env` is all of it. */
  readonly exactEnvironment?: boolean
  /** SIGKILL after this; 10 minutes unless told. */
  readonly timeoutMs?: number
  /** Run it as this user instead of ours. */
  readonly user?: PlainUser
  readonly input?: string | Buffer
}

export interface PlainUser {
  readonly uid: number
  readonly gid: number
}

/**
 * Some servers refuse to run as root. When we are root this is the user `nobody` (it has a row in /etc/passwd, which initdb
 * asks for); otherwise undefined, for the user that we are. Give it the folders it writes: `throwAwayFolder({ owner: plainUser() })`.
 */
export function plainUser(): PlainUser | undefined {
  return process.getuid?.() === 0 ? { uid: 65534, gid: 65534 } : undefined
}

/** Runs a command to its end and gives its standard output. Throws with the end of its standard error unless it exited 0. */
export async function runCommand(command: string, args: readonly string[], options: CommandOptions = {}): Promise<string> {
  const { status, signal, stdout, stderr } = await tryCommand(command, args, options)
  if (status === 0) return stdout
  const shown = [command, ...args].join(' ').slice(0, 300)
  throw new Error(`${shown}: ${signal ?? `exit status ${status}`}\n${(stderr || stdout).slice(-4096)}`)
}

export interface CommandResult {
  readonly status: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
}

/** The same, but any exit status is an answer. Rejects only when the command could not be started. */
export function tryCommand(command: string, args: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: options.cwd,
      env: options.exactEnvironment ? options.env : { ...process.env, ...options.env },
      timeout: options.timeoutMs ?? 600_000,
      killSignal: 'SIGKILL',
      ...options.user,
    })
    const stdout: Buffer[] = []
    const stderr: Buffer[] = []
    child.stdout.on('data', (piece: Buffer) => stdout.push(piece))
    child.stderr.on('data', (piece: Buffer) => stderr.push(piece))
    // A command that ends without reading its input is judged by its exit status.
    child.stdin.on('error', () => child.stdin.destroy())
    child.stdin.end(options.input)
    child.once('error', reject)
    child.once('close', (status, signal) =>
      resolve({ status, signal, stdout: Buffer.concat(stdout).toString(), stderr: Buffer.concat(stderr).toString() }),
    )
  })
}
