import { S3ServiceException } from '@aws-sdk/client-s3'
import { HoldfastError } from '../../errors.ts'
import { objectMissing, systemCode } from '../object-errors.ts'

/** A put found the name taken (412). Not yet an error: the caller looks whether it was its own. */
export const isTaken = (error: unknown): boolean => statusOf(error) === 412

/** Two puts of one key met (409 ConditionalRequestConflict, OperationAborted): S3 asks to try again. */
export const isRace = (error: unknown): boolean => statusOf(error) === 409

export function statusOf(error: unknown): number | undefined {
  return error instanceof S3ServiceException ? error.$metadata.httpStatusCode : undefined
}

export const isAbsent = (error: unknown): boolean =>
  statusOf(error) === 404 && error instanceof S3ServiceException && error.name !== 'NoSuchBucket'

/** The service does not know the call at all: compatible services leave some out. */
export const isUnknownCall = (error: unknown): boolean =>
  statusOf(error) === 501 || (error instanceof S3ServiceException && ['NotImplemented', 'MethodNotAllowed'].includes(error.name))

/**
 * Say nothing that lasts. 412 too: where a condition was set it has been dealt with, and to any other request it is the answer of something
 * between that is out of order. A backup must not be called invalid for it.
 */
const PASSING: ReadonlySet<number> = new Set([408, 409, 412, 429])

/** Of a body that does not match its checksum, by AWS and by compatible services. */
const BODY_REFUSED = /^(BadDigest|XAmzContentChecksumMismatch|XAmzContentSHA256Mismatch|InvalidDigest)$/
const SIGN_IN =
  /^(CredentialsProviderError|ExpiredToken|InvalidAccessKeyId|SignatureDoesNotMatch|TokenRefreshRequired|InvalidToken)$/

/**
 * An error of the SDK as ours. `what` names bucket and key. The original is not kept as the cause: it carries the access key's id,
 * the string that was signed and the response, which would end in a log.
 */
export function fromS3(error: unknown, what: string): Error {
  if (error instanceof HoldfastError || !(error instanceof Error)) return error as Error
  const status = statusOf(error)
  // a connection's error has only a code: ECONNREFUSED, CERT_HAS_EXPIRED ...
  const name = error.name === 'Error' ? (systemCode(error) ?? error.name) : error.name
  const context = { service_error: name, http_status: status, request_id: requestId(error) }
  const say = `${what} (${name}${status ? `, ${status}` : ''})`
  if (SIGN_IN.test(error.name)) {
    return new HoldfastError('target_denied', `no valid AWS credentials for ${say}`, {
      hint: 'Give credentials by the usual AWS ways: environment, profile, container or instance role.',
      context,
    })
  }
  if (BODY_REFUSED.test(error.name)) {
    return new HoldfastError('object_damaged', `the body sent for ${say} does not match its SHA-256`, {
      hint: 'It was changed on its way. Send it again; if it happens again, test the memory and the network of the sender.',
      context,
      retry: true,
    })
  }
  if (error.name === 'NoSuchBucket') {
    return new HoldfastError('target_refused', `the bucket is not there: ${say}`, {
      hint: 'Make it, or correct its name and region.',
      context,
    })
  }
  if (status === 404) return objectMissing(what)
  if (status === 403 || status === 401) {
    return new HoldfastError('target_denied', `the service denies ${say}`, {
      hint: 'Allow s3:GetObject, PutObject, DeleteObject, ListBucket, and with versions DeleteObjectVersion and ListBucketVersions.',
      context,
    })
  }
  if (status === 301 || status === 307 || error.name === 'PermanentRedirect') {
    return new HoldfastError('target_refused', `the bucket is in another region: ${say}`, {
      hint: "Set the target's region.",
      context,
    })
  }
  if (/Region is missing/.test(error.message)) {
    return new HoldfastError('invalid_config', `no region for ${what}`, {
      hint: "Set the target's region, or AWS_REGION.",
      context,
    })
  }
  if (status !== undefined && status >= 400 && status < 500 && !PASSING.has(status)) {
    return new HoldfastError('target_refused', `the service refuses ${say}`, {
      hint: "Look up the service's error; the target's settings or the service's limits do not allow this.",
      context,
    })
  }
  return new HoldfastError('target_unreachable', `no good answer for ${say}`, {
    hint: 'Look at the network and at the state of the service; it is tried again.',
    context,
  })
}

function requestId(error: Error): string | undefined {
  return error instanceof S3ServiceException ? error.$metadata.requestId : undefined
}
