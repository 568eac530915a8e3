import { asHoldfastError } from '../../shared/errors.ts'
import type { Finding } from '../../shared/results.ts'
import { LOW_NICE, type PlainLimits } from './limits.ts'

type Priority = Pick<PlainLimits, 'nice' | 'disk'>

/** Processor and disk priority of a job's process and its tools, as the agent says and changes it. What the host refuses is a finding. */
export class JobPriority {
  readonly #finding: (finding: Finding) => void
  /** As the agent starts a job's process, unless something else is said. */
  #now: Priority = { nice: LOW_NICE, disk: 'normal' }
  #applied: Promise<void> = Promise.resolve()

  constructor(finding: (finding: Finding) => void) {
    this.#finding = finding
  }

  /** One after the other, in the order said. */
  set(priority: Priority): Promise<void> {
    this.#applied = this.#applied.then(() => this.#apply(priority))
    return this.#applied
  }

  async #apply({ nice, disk }: Priority): Promise<void> {
    const before = this.#now
    this.#now = { nice, disk }
    if (nice === before.nice && disk === before.disk) return
    const { setGroupDisk, setGroupNice } = await import('../process/priority.ts')
    if (nice !== before.nice) this.#try('processor_priority_refused', () => setGroupNice(nice))
    if (disk !== before.disk) this.#try('disk_priority_refused', () => setGroupDisk(disk))
  }

  #try(code: string, change: () => void): void {
    try {
      change()
    } catch (error) {
      const { message, hint } = asHoldfastError(error)
      this.#finding({ code, severity: 'warning', message, hint })
    }
  }
}
