import type { IncomingHttpHeaders } from 'node:http'
import type { Dispatcher } from 'undici'

/** Where a request goes. */
export interface Way {
  readonly dispatcher: Dispatcher
  /** As the dispatcher knows it. */
  readonly origin: string
  /** By the control plane's own socket. */
  readonly onThisHost: boolean
}

export interface Request extends Way, Pick<Dispatcher.RequestOptions, 'method' | 'headers' | 'body'> {
  readonly signal: AbortSignal
}

/** Who takes the body of an answer. */
export interface Taker {
  /**
   * Called with each piece as it comes: "enough" drops the rest, and the connection with it. The next piece comes when a promise has resolved. What it throws ends the request
   * with that error.
   */
  take(piece: Buffer): 'enough' | undefined | Promise<void>
}

/**
 * Sends a request, and hands the answer's body over piece by piece. Resolves when all of it was taken, or enough. `begin` is told the status and the headers, and
 * names who takes the body; null drops it. An abort ends it at once with the signal's reason.
 *
 * undici's own `request` makes a stream of each body, which costs as much for each of its pieces of 16 KiB as all else; and its main module has a browser's fetch, caches,
 * proxies and mocks besides, 4 MB and 40 ms of processor time for each job. So the files of it that are used are named in connections.ts; its version is pinned.
 */
export function request(
  address: string,
  { dispatcher, signal, onThisHost: _, ...options }: Request,
  begin: (status: number, headers: IncomingHttpHeaders) => Taker | null,
): Promise<void> {
  const { pathname, search } = new URL(address)
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason)
    const answer = new Answer(begin, { resolve, reject, signal })
    dispatcher.dispatch({ ...options, path: `${pathname}${search}` }, answer)
  })
}

interface Settling {
  resolve(): void
  reject(error: unknown): void
  readonly signal: AbortSignal
}

class Answer implements Dispatcher.DispatchHandler {
  readonly #begin: Parameters<typeof request>[2]
  readonly #settling: Settling
  #controller: Dispatcher.DispatchController | null = null
  #taker: Taker | null = null
  /** A body can end while its last piece still waits for its turn: the next object would begin too early. */
  #turn: Promise<void> | null = null
  #over = false

  constructor(begin: Parameters<typeof request>[2], settling: Settling) {
    this.#begin = begin
    this.#settling = settling
    settling.signal.addEventListener('abort', this.#onAbort, { once: true })
  }

  readonly #onAbort = (): void => this.#fail(this.#settling.signal.reason)

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller
    // it waited for a connection
    if (this.#over) controller.abort(this.#settling.signal.reason)
  }

  onResponseStart(_: Dispatcher.DispatchController, status: number, headers: IncomingHttpHeaders): void {
    // 100, 103: the answer itself follows
    if (status < 200) return
    this.#taker = this.#begin(status, headers)
    if (!this.#taker) this.#drop()
  }

  onResponseData(controller: Dispatcher.DispatchController, piece: Buffer): void {
    // one without a byte comes when it goes on after a piece that was waited for
    if (this.#over || piece.length === 0) return
    const taken = this.#taker?.take(piece)
    if (taken === 'enough') return this.#drop()
    if (!taken) return
    controller.pause()
    this.#turn = taken
    taken.then(
      () => controller.resume(),
      (error) => this.#fail(error),
    )
  }

  onResponseEnd(): void {
    if (this.#turn)
      this.#turn.then(
        () => this.#end(),
        (error) => this.#fail(error),
      )
    else this.#end()
  }

  onResponseError(_: unknown, error: Error): void {
    this.#fail(error)
  }

  #end(): void {
    if (this.#close()) this.#settling.resolve()
  }

  #drop(): void {
    const controller = this.#controller
    this.#end()
    controller?.abort(new Error('the rest of the answer is not wanted'))
  }

  #fail(error: unknown): void {
    const controller = this.#controller
    if (!this.#close()) return
    this.#settling.reject(error)
    controller?.abort(error as Error)
  }

  #close(): boolean {
    if (this.#over) return false
    this.#over = true
    this.#settling.signal.removeEventListener('abort', this.#onAbort)
    return true
  }
}
