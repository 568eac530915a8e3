import os from 'node:os'
import type { Clock } from '../../shared/clock.ts'
import { type AgentLimits, DiskPriority, ProcessorPriority } from '../../shared/generated/holdfast/agent/v1/session.ts'
import type { Logger } from '../../shared/log.ts'
import { Throttle } from '../transfer/throttle.ts'

/** What a job's process is told of the limits. */
export interface PlainLimits {
  /** Bytes a second that all jobs of the agent share; null: as fast as it goes. */
  readonly upload: number | null
  readonly download: number | null
  readonly nice: number
  readonly disk: 'normal' | 'low' | 'idle'
}

export type Direction = 'upload' | 'download'

/** Unless something else is said: a backup yields to the database beside it. */
export const LOW_NICE = 5
const LOWEST_NICE = 19

/**
 * What the control plane allows this agent's jobs to take. The rates are kept here, in the agent, and each job's process asks for its share: so
 * they hold for all together, and one job has the whole line while the others do not send.
 */
export class JobLimits {
  readonly #log: Logger
  /** Of the agent itself: a process cannot take a higher one without being root, and should not. */
  readonly #ownNice: number
  readonly #pace: Readonly<Record<Direction, Throttle>>
  #priority: Pick<PlainLimits, 'nice' | 'disk'>

  constructor(clock: Clock, log: Logger, ownNice = os.getPriority()) {
    this.#log = log
    this.#ownNice = ownNice
    this.#pace = { upload: new Throttle(null, clock), download: new Throttle(null, clock) }
    this.#priority = { nice: Math.max(LOW_NICE, ownNice), disk: 'normal' }
  }

  get plain(): PlainLimits {
    const { upload, download } = this.#pace
    return { upload: upload.bytesPerSecond, download: download.bytesPerSecond, ...this.#priority }
  }

  set(limits: AgentLimits): void {
    this.#pace.upload.set(Number(limits.uploadBytesPerSecond) || null)
    this.#pace.download.set(Number(limits.downloadBytesPerSecond) || null)
    this.#priority = { nice: Math.max(NICE[limits.processor] ?? LOW_NICE, this.#ownNice), disk: DISK[limits.disk] ?? 'normal' }
    this.#log.info({ ...this.plain }, 'limits of this agent’s jobs')
  }

  take(direction: Direction, bytes: number, signal: AbortSignal): Promise<void> {
    return this.#pace[direction].take(bytes, signal)
  }
}

const NICE: Readonly<Partial<Record<ProcessorPriority, number>>> = {
  [ProcessorPriority.NORMAL]: 0,
  [ProcessorPriority.LOW]: LOW_NICE,
  [ProcessorPriority.LOWEST]: LOWEST_NICE,
}

const DISK: Readonly<Partial<Record<DiskPriority, PlainLimits['disk']>>> = {
  [DiskPriority.LOW]: 'low',
  [DiskPriority.IDLE]: 'idle',
}
