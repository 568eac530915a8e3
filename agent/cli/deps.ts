import type { AgentHome } from '../config/home.ts'

/** What the commands need of the process they run in: main.ts is the only one who knows it. */
export interface CliDeps {
  /** As --home says, else the user's default. */
  home(): AgentHome
  print(line: string): void
  printError(line: string): void
  readStdin(): Promise<string>
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly hostName: string
  readonly userHome: string
  /** Aborts on SIGINT and SIGTERM. */
  readonly stop: AbortSignal
}
