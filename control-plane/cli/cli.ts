import { type Command, Option } from 'commander'
import type { ExitStatus } from '../../shared/exit-status.ts'
import { type Client, createClient } from './client.ts'
import { findServer } from './find-server.ts'
import type { Io } from './io.ts'
import type { Format } from './print.ts'

/** What an action works with. */
export interface Cli {
  readonly io: Io
  readonly client: Client
  readonly format: Format
}

export interface CommonOptions {
  readonly url?: string
  readonly apiKey?: string
  readonly format: Format
}

export type Finish = (status: ExitStatus) => void

/** Options that every command which asks the control plane has. */
export function remote(command: Command): Command {
  return command
    .addOption(new Option('--format <format>', 'table for people, json for scripts').choices(['table', 'json']).default('table'))
    .addOption(new Option('--url <url>', 'address of the control plane (HOLDFAST_URL)'))
    .addOption(new Option('--api-key <key>', 'API key (better: HOLDFAST_API_KEY)'))
}

export async function connect(io: Io, options: CommonOptions): Promise<Cli> {
  const place = await findServer(io, { url: options.url, apiKey: options.apiKey })
  return { io, client: createClient(place), format: options.format }
}
