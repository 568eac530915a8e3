import type { FromChild, ParentCalls, ToChild } from './messages.ts'
import { fromPlain } from './plain.ts'

type Answer = Extract<ToChild, { type: 'answer' | 'error' }>

/** Calls from the job's process to the agent, each settled by its number. */
export class ParentLink {
  readonly #send: (message: FromChild) => void
  readonly #waiting = new Map<number, { resolve: (value: never) => void; reject: (error: Error) => void }>()
  #last = 0

  constructor(send: (message: FromChild) => void) {
    this.#send = send
  }

  readonly calls: ParentCalls = {
    signPuts: (objects) => this.#call('signPuts', objects),
    signGets: (objects) => this.#call('signGets', objects),
    openBackups: (recipient) => this.#call('openBackups', recipient),
    commitBackup: (offer) => this.#call('commitBackup', offer),
    packStored: (pack) => this.#call('packStored', pack),
  }

  settle(message: Answer): void {
    const waiting = this.#waiting.get(message.call)
    if (!waiting) return
    this.#waiting.delete(message.call)
    if (message.type === 'answer') waiting.resolve(message.value as never)
    else waiting.reject(fromPlain(message.error))
  }

  #call<T>(method: keyof ParentCalls, argument: unknown): Promise<T> {
    const call = ++this.#last
    return new Promise<T>((resolve, reject) => {
      this.#waiting.set(call, { resolve, reject })
      this.#send({ type: 'call', call, method, argument })
    })
  }
}
