import { ResponderBuilder, ServerInterceptingCall, type ServerInterceptor, ServerListenerBuilder } from '@grpc/grpc-js'
import type { CallContext } from 'nice-grpc-common'

/** Where the interceptor puts the peer's certificate (DER): nice-grpc shows metadata, not the connection. */
const PEER_CERTIFICATE = 'holdfast-peer-certificate-bin'

/**
 * Hands the certificate that TLS verified to the services, in metadata, after removing what the client itself sent under
 * that name. grpc-js gives it only when the connection is authorised.
 */
export const peerCertificateInterceptor: ServerInterceptor = (_method, call) =>
  new ServerInterceptingCall(
    call,
    new ResponderBuilder()
      .withStart((next) => {
        const listener = new ServerListenerBuilder()
          .withOnReceiveMetadata((metadata, forward) => {
            metadata.remove(PEER_CERTIFICATE)
            const raw = call.getAuthContext()?.sslPeerCertificate?.raw
            if (raw) metadata.set(PEER_CERTIFICATE, Buffer.from(raw))
            forward(metadata)
          })
          .build()
        next(listener)
      })
      .build(),
  )

export const peerCertificate = (context: CallContext): Uint8Array | undefined => context.metadata.get(PEER_CERTIFICATE)

/** Address without its port: callers are counted by host. */
export function peerAddress(context: CallContext): string {
  return context.peer.replace(/:\d+$/, '')
}
