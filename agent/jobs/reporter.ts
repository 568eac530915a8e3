import type { Clock } from '../../shared/clock.ts'
import type { ProgressDelta } from '../engines/engine.ts'
import type { FromChild, PlainProgress } from './messages.ts'

const INTERVAL_MS = 250

const NOTHING: PlainProgress = {
  phase: 'prepare',
  readBytes: 0,
  storedBytes: 0,
  skippedBytes: 0,
  writtenBytes: 0,
  objectsDone: 0,
  objectsTotal: 0,
  totalBytes: 0,
  chunks: 0,
  chunksSkipped: 0,
}

/** Progress as it stands, sent at most four times a second and whenever the phase changes: it never blocks work. */
export class Reporter {
  readonly #send: (message: FromChild) => void
  readonly #clock: Clock
  #totals = NOTHING
  #sentAt = Number.NEGATIVE_INFINITY

  constructor(send: (message: FromChild) => void, clock: Clock) {
    this.#send = send
    this.#clock = clock
  }

  get totals(): PlainProgress {
    return this.#totals
  }

  report(change: Partial<PlainProgress>): void {
    const phaseBefore = this.#totals.phase
    this.#totals = { ...this.#totals, ...change }
    const due = this.#clock.monotonicMs() - this.#sentAt >= INTERVAL_MS
    if (due || this.#totals.phase !== phaseBefore) this.flush()
  }

  /** What an engine says has been added (ProgressDelta). */
  add({ phase, ...added }: ProgressDelta): void {
    const sums: Record<string, number> = {}
    for (const [name, value] of Object.entries(added)) sums[name] = this.#totals[name as keyof typeof added] + value
    this.report({ ...(phase === undefined ? {} : { phase }), ...sums })
  }

  flush(): void {
    this.#sentAt = this.#clock.monotonicMs()
    this.#send({ type: 'progress', progress: this.#totals })
  }
}
