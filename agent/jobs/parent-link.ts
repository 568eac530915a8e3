import type { FromChild, ParentCalls, ToChild } from './messages.ts'
import { fromPlain } from './plain.ts'

type Answer = Extract<ToChild, { type: 'answer' | 'error' }>

/**
 * Calls from the job's process to the agent, each settled by its number. An abort ends those that wait at once: the agent itself waits for as
 * long as its control plane is away, and a restore whose lease has ended has to undo what it did before then.
 */
export class ParentLink {
  readonly #send: (message: FromChild) => void
  readonly #signal: AbortSignal
  readonly #waiting = new Map<number, { resolve: (value: never) => void; reject: (error: Error) => void }>()
  #last = 0

  constructor(send: (message: FromChild) => void, signal: AbortSignal) {
    this.#send = send
    this.#signal = signal
    signal.addEventListener('abort', () => {
      for (const { reject } of this.#waiting.values()) reject(signal.reason)
      this.#waiting.clear()
    })
  }

  readonly calls: ParentCalls = {
    signPuts: (objects) => this.#call('signPuts', objects),
    signGets: (objects) => this.#call('signGets', objects),
    askUnlock: (recipient) => this.#call('askUnlock', recipient),
    openBackups: (recipient) => this.#call('openBackups', recipient),
    commitBackup: (offer) => this.#call('commitBackup', offer),
    packStored: (pack) => this.#call('packStored', pack),
    take: (share) => this.#call('take', share),
  }

  settle(message: Answer): void {
    const waiting = this.#waiting.get(message.call)
    if (!waiting) return
    this.#waiting.delete(message.call)
    if (message.type === 'answer') waiting.resolve(message.value as never)
    else waiting.reject(fromPlain(message.error))
  }

  #call<T>(method: keyof ParentCalls, argument: unknown): Promise<T> {
    if (this.#signal.aborted) return Promise.reject(this.#signal.reason)
    const call = ++this.#last
    return new Promise<T>((resolve, reject) => {
      this.#waiting.set(call, { resolve, reject })
      this.#send({ type: 'call', call, method, argument })
    })
  }
}
