import { fileURLToPath } from 'node:url'
import { type StartedProcess, startProcess } from './processes.ts'

const SERVER = fileURLToPath(new URL('../../control-plane/main.ts', import.meta.url))

/** The control plane as the program that operators run, so that it can be killed and paused. `settings` as HOLDFAST_* variables. */
export function startServerProcess(settings: Readonly<Record<string, string>>): Promise<StartedProcess> {
  return startProcess(process.execPath, ['--disable-warning=ExperimentalWarning', SERVER], {
    env: settings,
    ready: (started) => started.output().includes('control plane started'),
  })
}
