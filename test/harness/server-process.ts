import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { type StartedProcess, startProcess } from './processes.ts'
import type { ShiftedClock } from './shifted-clock.ts'

const SERVER = fileURLToPath(new URL('../../control-plane/main.ts', import.meta.url))

/** The control plane as the program that operators run, so that it can be killed and paused. `settings` as HOLDFAST_* variables. */
export function startServerProcess(settings: Readonly<Record<string, string>>): Promise<StartedProcess> {
  return startProcess(process.execPath, ['--disable-warning=ExperimentalWarning', SERVER], {
    env: { ...settings, ...compiled },
    ready: (started) => started.output().includes('control plane started'),
  })
}

/** Starts of our own programs cost half as much when Node finds what it compiled before. */
export const compiled = { NODE_COMPILE_CACHE: path.join(tmpdir(), `holdfast-compiled-${process.getuid?.() ?? 0}`) } as const

/** For agents: jobs of tests run what `npm test` has made of the sources, as those of users do, and the sources where it has made nothing. */
const { HOLDFAST_JOB_PROGRAM } = process.env
export const jobProgram: Readonly<Record<string, string>> = HOLDFAST_JOB_PROGRAM ? { HOLDFAST_JOB_PROGRAM } : {}

const SHIFTED = fileURLToPath(new URL('./shifted-server.ts', import.meta.url))

/** A control plane in a process of its own whose clock goes with this one; see shifted-server.ts. `options` can be written as JSON. */
export async function startShiftedServer(
  options: object,
  clock: ShiftedClock,
  env: Readonly<Record<string, string>>,
): Promise<StartedProcess> {
  const server = await startProcess(
    process.execPath,
    ['--disable-warning=ExperimentalWarning', SHIFTED, JSON.stringify(options)],
    {
      env: { ...env, ...compiled },
      ipc: true,
      ready: (started) => started.output().includes('control plane started'),
      // after a power cut an embedded catalog syncs each of its files, a thousand and more
      readyMs: 240_000,
    },
  )
  const stopListening = clock.onShift((shiftMs) => server.send({ shiftMs }))
  server.exited.then(stopListening, stopListening)
  server.send({ shiftMs: clock.shiftMs })
  return server
}
