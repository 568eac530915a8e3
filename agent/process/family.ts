import type { ChildProcess } from 'node:child_process'
import { readdir, readFile } from 'node:fs/promises'
import { systemClock } from '../../shared/clock.ts'

/**
 * A tool with the processes that it has started. They stay in the process group of the job, so that they end with it
 * when it is killed; so they are told from the job's other tools by a variable of their environment, which a child
 * inherits, and which still tells when its parent has gone. Where /proc does not show it (macOS), the tool alone is ended.
 */
export const FAMILY_VARIABLE = 'HOLDFAST_TOOL'

const POLL_MS = 10
const WAIT_MS = 2000

/** Tools that live. A program that exits in the middle takes them along. */
const living = new Set<ChildProcess>()
process.on('exit', () => {
  for (const child of living) child.kill('SIGKILL')
})

export class Family {
  readonly #child: ChildProcess
  readonly #mark: string
  readonly #gone: Promise<unknown>

  /** `gone` settles once the tool itself has been waited for. */
  constructor(child: ChildProcess, name: string, gone: Promise<unknown>) {
    this.#child = child
    this.#mark = `${FAMILY_VARIABLE}=${name}`
    this.#gone = gone.catch(() => undefined)
    living.add(child)
    void this.#gone.then(() => living.delete(child))
  }

  /** SIGTERM, after a grace SIGKILL, until the tool has been waited for and nothing that it started runs. */
  async end(graceMs: number): Promise<void> {
    await this.#signal('SIGTERM')
    const waiting = new AbortController()
    const grace = systemClock.sleep(graceMs, waiting.signal).then(
      () => this.#signal('SIGKILL'),
      () => 0,
    )
    await this.#gone
    waiting.abort()
    await grace
    await this.endRest()
  }

  /** Ends what is left of the family. Bounded: a process stuck in the kernel cannot be ended by anyone. */
  async endRest(): Promise<void> {
    const deadline = systemClock.monotonicMs() + WAIT_MS
    while ((await this.#signal('SIGKILL')) > 0 && systemClock.monotonicMs() < deadline) await systemClock.sleep(POLL_MS)
  }

  /** Returns how many were there. */
  async #signal(signal: NodeJS.Signals): Promise<number> {
    // its environment may not be to be seen yet, or be that of another user
    let count = this.#child.kill(signal) ? 1 : 0
    for (const pid of await this.#members()) {
      if (pid === this.#child.pid) continue
      count++
      try {
        process.kill(pid, signal)
      } catch (error) {
        // ESRCH: gone since. EPERM: it has changed its user, and nobody but root can end it
        if (!['ESRCH', 'EPERM'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error
      }
    }
    return count
  }

  /** The environment of a dead process that nobody has reaped yet is empty: those do not count. */
  async #members(): Promise<number[]> {
    if (process.platform !== 'linux') return []
    const members: number[] = []
    for (const name of await readdir('/proc')) {
      if (!/^\d+$/.test(name)) continue
      // gone, or not ours to look at
      const environment = await readFile(`/proc/${name}/environ`, 'latin1').catch(() => '')
      if (environment.split('\0').includes(this.#mark)) members.push(Number(name))
    }
    return members
  }
}
