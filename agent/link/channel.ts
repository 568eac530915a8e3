import { type Channel, ChannelCredentials, createChannel, createClientFactory } from 'nice-grpc'
import type { ClientMiddleware } from 'nice-grpc-common'
import type { Clock } from '../../shared/clock.ts'
import { HoldfastError } from '../../shared/errors.ts'
import {
  type EnrolmentServiceClient,
  EnrolmentServiceDefinition,
  type IdentityServiceClient,
  IdentityServiceDefinition,
} from '../../shared/generated/holdfast/agent/v1/enrolment.ts'
import { type ObjectServiceClient, ObjectServiceDefinition } from '../../shared/generated/holdfast/agent/v1/objects.ts'
import { type SessionServiceClient, SessionServiceDefinition } from '../../shared/generated/holdfast/agent/v1/session.ts'
import { statusToErrors } from '../../shared/grpc-errors.ts'
import { MAX_ENROLMENT_BYTES, MAX_MESSAGE_BYTES } from '../../shared/protocol.ts'
import { CONTROL_PLANE_NAME } from '../../shared/x509/control-plane-name.ts'
import { type Address, addressText } from './address.ts'
import type { AgentIdentity } from './identity.ts'

/** A control plane of the fleet answers to this name, whatever address leads to it: only its authority gives it out. */
const COMMON = {
  'grpc.ssl_target_name_override': CONTROL_PLANE_NAME,
  'grpc.keepalive_time_ms': 30_000,
  'grpc.keepalive_timeout_ms': 20_000,
  'grpc.keepalive_permit_without_calls': 1,
  // the limit of a connection attempt, in spite of its name: grpc-js has none, nice-grpc adds it
  'grpc.min_reconnect_backoff_ms': 20_000,
  // each attempt to connect is its own: what an earlier one waits for must not hold it up
  'grpc.use_local_subchannel_pool': 1,
  'grpc.enable_retries': 0,
}

/** How long one call may take, where the call does not bring a signal that says otherwise. Both in milliseconds. */
const CALL_MS = 60_000
const LONG_CALL_MS = 30 * 60_000
/** The control plane asks the store about every object before it answers. */
const LONG_CALLS = new Set(['/holdfast.agent.v1.ObjectService/CommitBackup'])

export function agentsChannel(identity: AgentIdentity, address: Address): Channel {
  const credentials = ChannelCredentials.createSsl(
    Buffer.from(identity.authorityPem),
    Buffer.from(identity.privateKey.export({ type: 'pkcs8', format: 'pem' })),
    Buffer.from(identity.chainPem),
  )
  return createChannel(`https://${addressText(address)}`, credentials, {
    ...COMMON,
    'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
    'grpc.max_send_message_length': MAX_MESSAGE_BYTES,
  })
}

/**
 * Server certificate only. Without `verify` nobody is authenticated: only to name this host's clock when the server's certificate
 * cannot be accepted because of its times, with nothing in the message that is secret.
 */
export function enrolmentChannel(
  address: Address,
  authorityPem: string,
  options: { verify: boolean } = { verify: true },
): Channel {
  const credentials = ChannelCredentials.createSsl(Buffer.from(authorityPem), null, null, { rejectUnauthorized: options.verify })
  return createChannel(`https://${addressText(address)}`, credentials, {
    ...COMMON,
    'grpc.max_receive_message_length': MAX_ENROLMENT_BYTES,
    'grpc.max_send_message_length': MAX_ENROLMENT_BYTES,
  })
}

export interface Clients {
  readonly enrolment: EnrolmentServiceClient
  readonly identity: IdentityServiceClient
  readonly sessions: SessionServiceClient
  readonly objects: ObjectServiceClient
}

/** Every failed call throws a HoldfastError. */
export function clientsOn(channel: Channel, clock: Clock): Clients {
  const factory = createClientFactory().use(statusToErrors).use(deadlines(clock))
  return {
    enrolment: factory.create(EnrolmentServiceDefinition, channel),
    identity: factory.create(IdentityServiceDefinition, channel),
    sessions: factory.create(SessionServiceDefinition, channel),
    objects: factory.create(ObjectServiceDefinition, channel),
  }
}

/** A unary call that is never answered ends, by the monotonic clock. Streams have their own rules. */
function deadlines(clock: Clock): ClientMiddleware {
  return async function* (call, options) {
    if (call.requestStream || call.responseStream) return yield* call.next(call.request, options)
    const path = call.method.path
    const limitMs = LONG_CALLS.has(path) ? LONG_CALL_MS : CALL_MS
    const timer = new AbortController()
    const deadline = new AbortController()
    const late = clock.sleep(limitMs, timer.signal).then(
      () => deadline.abort(),
      () => 'answered in time',
    )
    const signal = options.signal ? AbortSignal.any([options.signal, deadline.signal]) : deadline.signal
    try {
      return yield* call.next(call.request, { ...options, signal })
    } catch (error) {
      if (!deadline.signal.aborted) throw error
      throw new HoldfastError('deadline_exceeded', `${path} was not answered within ${limitMs / 1000} s`, { cause: error })
    } finally {
      timer.abort()
      await late
    }
  }
}
