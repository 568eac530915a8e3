import { mkdtempSync, rmSync } from 'node:fs'
import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { PassThrough } from 'node:stream'
import { systemClock } from '../../shared/clock.ts'
import type { ExitStatus } from '../../shared/exit-status.ts'
import { type FakeApi, fakeApi, KEYS } from '../api/testing/fake-api.ts'
import { type FakeOperations, job } from '../api/testing/fake-operations.ts'
import type { Io } from './io.ts'
import { runCommandLine } from './program.ts'

export interface Ran {
  readonly status: ExitStatus
  readonly out: string
  readonly err: string
  readonly asked: string[]
}

/** Runs a command line in this process, by default as an administrator of the control plane at `url`. */
export async function run(
  url: string | null,
  args: readonly string[],
  over: { environment?: Record<string, string>; answer?: string; terminal?: boolean; cwd?: string } = {},
): Promise<Ran> {
  let out = ''
  let err = ''
  const asked: string[] = []
  const io: Io = {
    out: (text) => void (out += text),
    err: (text) => void (err += text),
    outIsTerminal: over.terminal ?? false,
    errIsTerminal: false,
    canAsk: over.answer !== undefined,
    ask: async (question) => {
      asked.push(question)
      return over.answer ?? ''
    },
    environment: { ...(url === null ? {} : { HOLDFAST_URL: url, HOLDFAST_API_KEY: KEYS.admin }), ...over.environment },
    cwd: over.cwd ?? (await mkdtemp(path.join(tmpdir(), 'hf-cli-'))),
    clock: systemClock,
    errStream: new PassThrough(),
  }
  const status = await runCommandLine({ io, version: '0.1.0' }, args)
  return { status, out, err, asked }
}

/** An API on a port, over operations that answer as a test wants, and a folder to stand in. */
export class Served {
  readonly folder = mkdtempSync(path.join(tmpdir(), 'hf-cli-'))
  url = ''
  api: FakeApi | undefined

  /** Answers with its address. */
  async start(over: Partial<FakeOperations> = {}): Promise<string> {
    this.api = await fakeApi(over)
    this.url = await this.api.app.listen({ host: '127.0.0.1', port: 0 })
    return this.url
  }

  get calls(): FakeApi['operations']['calls'] {
    return this.api?.operations.calls ?? []
  }

  async close(): Promise<void> {
    await this.api?.app.close()
    this.api = undefined
    rmSync(this.folder, { recursive: true, force: true })
  }
}

/** Jobs that end as told. */
export const ending = (status: 'succeeded' | 'failed', over: object = {}): Partial<FakeOperations> => ({
  getJob: async () => job({ status, finished_at: '2026-11-21T02:01:00.000Z', ...over }),
  events: async function* () {
    yield { id: 1, type: 'state', at: '2026-11-21T02:01:00.000Z', attempt: 1, data: { state: status, error: null } }
  },
})
