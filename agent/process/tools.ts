import type { Readable, Writable } from 'node:stream'

/**
 * The only way to a child process. No shell, absolute paths, an environment made from nothing (PATH, LANG=C.UTF-8, TZ=UTC,
 * what is given, and HOLDFAST_TOOL: family.ts), no argument of foreign origin may begin with a hyphen. Tools stay in the process
 * group of the job.
 */
export interface Tools {
  /** Absolute path of a tool: in `folders` first, then on PATH. Throws `tool_missing` naming it. */
  find(name: string, folders?: readonly string[]): Promise<string>
  /**
   * Runs a tool to its end. Throws `tool_failed` with the exit status and the last 4 KiB of standard error (through `mapError`
   * when given) unless it exited 0. On abort: SIGTERM, after `graceMs` SIGKILL, waits until it is gone, throws the reason.
   */
  run(tool: string, args: readonly Arg[], options: ToolOptions): Promise<{ stdout: Buffer; stderr: string }>
  /** The same with pipes. `done` settles after the process has gone and both outputs are closed. */
  start(tool: string, args: readonly Arg[], options: ToolOptions): RunningTool
}

/** A literal of ours, or a value of foreign origin, which is refused when it begins with a hyphen or holds a NUL. */
export type Arg = string | { readonly value: string }

export interface ToolOptions {
  readonly signal: AbortSignal
  readonly env?: Readonly<Record<string, string>>
  readonly cwd?: string
  readonly input?: Buffer
  /** `run` only: more output than this throws `too_large`. 16 MiB. */
  readonly maxOutputBytes?: number
  readonly graceMs?: number
  readonly mapError?: (failure: ToolFailure) => Error
}

export interface ToolFailure {
  readonly tool: string
  readonly status: number | null
  readonly killedBy: NodeJS.Signals | null
  readonly stderr: string
}

export interface RunningTool {
  readonly pid: number
  readonly stdin: Writable
  readonly stdout: Readable
  readonly done: Promise<void>
  /**
   * Writes `input` to standard input and ends it. True: the tool was given all of it, and `done` tells what it made of that. False: it
   * ended well and left some. Throws what `done` throws when it went away before, and what `input` throws after the tool was killed:
   * it may have taken the end of its input for the end of the data.
   */
  feed(input: AsyncIterable<Buffer>): Promise<boolean>
  kill(): Promise<void>
}
