import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { expect, it } from 'vitest'
import { systemClock } from '../../shared/clock.ts'
import { tryProcessLock, waitForProcessLock } from './process-lock.ts'

it('is held by one process at a time and given back when its holder is killed', async () => {
  const folder = await mkdtemp(path.join(tmpdir(), 'lock-'))
  const file = path.join(folder, 'lock')
  const module = new URL('./process-lock.ts', import.meta.url).href
  const program = `import { tryProcessLock } from ${JSON.stringify(module)}
    globalThis.held = tryProcessLock(${JSON.stringify(file)}); console.log(globalThis.held ? 'held' : 'not'); setInterval(() => globalThis.held, 1000)`
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], { stdio: ['ignore', 'pipe', 'inherit'] })
  const [first] = (await once(child.stdout, 'data')) as [Buffer]
  expect(first.toString().trim()).toBe('held')
  expect(tryProcessLock(file)).toBeNull()
  child.kill('SIGKILL')
  const lock = await waitForProcessLock(file, systemClock, AbortSignal.timeout(10_000))
  lock.release()
  await rm(folder, { recursive: true })
})
