import { experimental, type ServerCredentials } from '@grpc/grpc-js'
import type { Clock } from '../../shared/clock.ts'
import type { Logger } from '../../shared/log.ts'
import type { Fleet, ServerCertificate } from './authority.ts'

type IdentityListener = experimental.IdentityCertificateUpdateListener
type CaListener = experimental.CaCertificateUpdateListener

/**
 * The listeners' certificate, renewed while they run. One certificate serves all listeners of a control plane. grpc-js takes
 * new ones through its certificate providers; connections that stand keep the one they have.
 */
export class ServerIdentity {
  readonly #fleet: Fleet
  readonly #hosts: readonly string[]
  readonly #listeners = new Set<IdentityListener>()
  readonly #stop = new AbortController()
  #certificate: ServerCertificate

  private constructor(fleet: Fleet, hosts: readonly string[], certificate: ServerCertificate) {
    this.#fleet = fleet
    this.#hosts = hosts
    this.#certificate = certificate
  }

  static async start(fleet: Fleet, hosts: readonly string[], clock: Clock, log: Logger): Promise<ServerIdentity> {
    const identity = new ServerIdentity(fleet, hosts, await fleet.issueServerCertificate(hosts))
    void identity.#keep(clock, log)
    return identity
  }

  get certificate(): ServerCertificate {
    return this.#certificate
  }

  stop(): void {
    this.#stop.abort()
  }

  /** TLS 1.2 or later (Node's own minimum). With `requireClient` TLS itself refuses whoever shows no certificate of the authority. */
  credentials(requireClient: boolean): ServerCredentials {
    const own: experimental.CertificateProvider = {
      addIdentityCertificateListener: (listener) => {
        this.#listeners.add(listener)
        // not at once: grpc-js asks before it has set up what the answer is for, and would drop every connection
        queueMicrotask(() => listener(this.#update()))
      },
      removeIdentityCertificateListener: (listener) => void this.#listeners.delete(listener),
      addCaCertificateListener: (listener: CaListener) =>
        queueMicrotask(() => listener({ caCertificate: Buffer.from(this.#fleet.authorityPem) })),
      removeCaCertificateListener: () => undefined,
    }
    // grpc-js 1.14.7 names its two providers the wrong way round: the first becomes the identity, the second the authority that
    // clients are checked with; without that one no certificate is asked for
    return experimental.createCertificateProviderServerCredentials(own, requireClient ? own : null, requireClient)
  }

  #update() {
    return { certificate: Buffer.from(this.#certificate.chainPem), privateKey: this.#certificate.privateKeyPem.reveal() }
  }

  async #keep(clock: Clock, log: Logger): Promise<void> {
    for (;;) {
      const { notBefore, notAfter } = this.#certificate
      // timers hold 24.8 days at most; looking daily is enough
      const stopped = await clock.sleep(86_400_000, this.#stop.signal).then(
        () => false,
        () => true,
      )
      if (stopped) return
      const renewAt = notBefore.getTime() + ((notAfter.getTime() - notBefore.getTime()) * 2) / 3
      if (clock.now().getTime() < renewAt) continue
      this.#certificate = await this.#fleet.issueServerCertificate(this.#hosts)
      log.info({ not_after: this.#certificate.notAfter }, 'the listeners have a new certificate')
      for (const listener of this.#listeners) listener(this.#update())
    }
  }
}
