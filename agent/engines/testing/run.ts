import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { Writable } from 'node:stream'
import { systemClock } from '../../../shared/clock.ts'
import { createLogger } from '../../../shared/log.ts'
import type { Finding } from '../../../shared/results.ts'
import { createTools } from '../../process/spawn.ts'
import type { ProgressDelta, Run } from '../engine.ts'

export interface TestRun extends Run {
  readonly findings: Finding[]
  readonly deltas: ProgressDelta[]
  /** All that was logged, down to debug. */
  logged(): string
  abort(reason: Error): void
  dispose(): Promise<void>
}

/** A run with a scratch folder of its own and real child processes. `fenced` throws what `fence` gives, if anything. */
export async function testRun(fence: () => Error | null = () => null): Promise<TestRun> {
  const scratch = await mkdtemp(path.join(tmpdir(), 'engine-run-'))
  const controller = new AbortController()
  const findings: Finding[] = []
  const deltas: ProgressDelta[] = []
  let logged = ''
  const destination = new Writable({
    write: (piece, _encoding, done) => {
      logged += piece
      done()
    },
  })
  const log = createLogger({ level: 'debug', destination })
  return {
    signal: controller.signal,
    log,
    clock: systemClock,
    tools: createTools({ path: '/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin', log }),
    scratch,
    findings,
    deltas,
    finding: (finding) => findings.push(finding),
    progress: (delta) => deltas.push(delta),
    fenced: () => {
      const error = fence()
      if (error) throw error
    },
    logged: () => logged,
    abort: (reason) => controller.abort(reason),
    dispose: () => rm(scratch, { recursive: true, force: true }),
  }
}
