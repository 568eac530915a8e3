import { rm } from 'node:fs/promises'
import path from 'node:path'
import type { Run } from '../engine.ts'

const AT_ONCE = 64

export interface Fifos {
  /** Name, within the job's folder, of a named pipe that nobody has opened yet. */
  next(): Promise<string>
  remove(name: string): Promise<void>
}

/**
 * A pipe of its own for each stream: one used again might still be open at its last reader when the next writer comes, whose
 * few bytes would then go with that reader. Node cannot make pipes; the tool makes many at once.
 */
export function fifoSupply(run: Run): Fifos {
  const ready: string[] = []
  let made = 0
  let making: Promise<void> | undefined
  const make = async () => {
    const mkfifo = await run.tools.find('mkfifo')
    const names = Array.from({ length: AT_ONCE }, () => `rows-${made++}`)
    await run.tools.run(mkfifo, ['-m', '600', ...names], { signal: run.signal, cwd: run.scratch })
    ready.push(...names)
  }
  return {
    next: async () => {
      for (;;) {
        const name = ready.shift()
        if (name !== undefined) return name
        making ??= make().finally(() => {
          making = undefined
        })
        await making
      }
    },
    remove: (name) => rm(path.join(run.scratch, name), { force: true }),
  }
}
