import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { systemClock } from '../../shared/clock.ts'
import { asHoldfastError } from '../../shared/errors.ts'
import { createLogger } from '../../shared/log.ts'
import type { Finding } from '../../shared/results.ts'
import type { SourceConfig } from '../config/sources.ts'
import type { Run } from '../engines/engine.ts'
import { engineFor } from '../engines/registry.ts'
import { createTools } from '../process/spawn.ts'
import type { CliDeps } from './deps.ts'

type Host = Pick<CliDeps, 'environment' | 'stop'>

/** A person waits no longer for a server that does not answer. */
const LOOK_MS = 10_000

/** What an engine runs in while a command looks at this host. Its scratch is gone afterwards. */
export async function looking<Found>(
  deps: Host,
  { finding, signal }: Pick<Run, 'finding' | 'signal'>,
  look: (run: Run) => Promise<Found>,
): Promise<Found> {
  const scratch = await mkdtemp(path.join(tmpdir(), 'holdfast-look-'))
  const log = createLogger({ level: 'error' })
  const tools = createTools({ path: deps.environment.PATH ?? '/usr/bin:/bin', log })
  const rest = { progress: () => undefined, fenced: () => undefined }
  try {
    return await look({ signal, log, clock: systemClock, tools, scratch, finding, ...rest })
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }
}

/** The pre-flight of a full backup, by this user on this host, whether or not an agent runs. What keeps it from an answer is a finding too. */
export async function preflightHere(deps: Host, { name, engine, config }: SourceConfig): Promise<Finding[]> {
  const signal = AbortSignal.any([deps.stop, AbortSignal.timeout(LOOK_MS)])
  const plan = { action: 'backup', config, type: 'full', parts: [] } as const
  try {
    return await looking(deps, { signal, finding: () => undefined }, (run) => engineFor(engine).preflight(plan, run))
  } catch (error) {
    deps.stop.throwIfAborted()
    if (signal.aborted) {
      const message = `${name} did not answer within ${LOOK_MS / 1000} s`
      return [{ code: 'source_unreachable', severity: 'error', message, hint: 'Look whether it is there and can be reached.' }]
    }
    const { code, message, hint } = asHoldfastError(error)
    return [{ code, severity: 'error', message, hint }]
  }
}
