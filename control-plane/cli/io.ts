import type { Clock } from '../../shared/clock.ts'

/** Everything of the process that a command may touch: main.ts gives the real one, tests another. */
export interface Io {
  /** The answer, nothing else. */
  out(text: string): void
  /** Progress, questions, errors. */
  err(text: string): void
  readonly outIsTerminal: boolean
  readonly errIsTerminal: boolean
  /** A person can be asked: input and error output are terminals. */
  readonly canAsk: boolean
  ask(question: string): Promise<string>
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly cwd: string
  readonly clock: Clock
  readonly errStream: NodeJS.WritableStream
}
