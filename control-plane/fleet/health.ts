import { HoldfastError } from '../../shared/errors.ts'
import type { HealthServiceImplementation } from '../../shared/generated/grpc/health/v1/health.ts'
import { HealthCheckResponse_ServingStatus as Status } from '../../shared/generated/grpc/health/v1/health.ts'

/** The standard health service (grpc.health.v1). The empty name stands for the whole listener. */
export class Health implements HealthServiceImplementation {
  readonly #services: ReadonlySet<string>
  readonly #changed = new EventTarget()
  #serving = true

  constructor(services: readonly string[]) {
    this.#services = new Set(['', ...services])
  }

  stop(): void {
    this.#serving = false
    this.#changed.dispatchEvent(new Event('change'))
  }

  async check(request: { service: string }) {
    if (this.#services.has(request.service)) return { status: this.#status() }
    throw new HoldfastError('not_found', `there is no service ${JSON.stringify(request.service.slice(0, 100))} here`)
  }

  async *watch(request: { service: string }, context: { signal: AbortSignal }) {
    if (!this.#services.has(request.service)) {
      yield { status: Status.SERVICE_UNKNOWN }
      return
    }
    yield { status: this.#status() }
    if (this.#serving) await this.#change(context.signal)
    if (!context.signal.aborted) yield { status: this.#status() }
  }

  #status() {
    return this.#serving ? Status.SERVING : Status.NOT_SERVING
  }

  #change(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      this.#changed.addEventListener('change', () => resolve(), { once: true, signal })
      signal.addEventListener('abort', () => resolve(), { once: true })
    })
  }
}
