import { HoldfastError } from '../../shared/errors.ts'
import type { Taker } from './request.ts'

/** What an answer of a store means for the request. */
export type Meaning =
  | 'done'
  /** The name is taken, perhaps by ourselves: the control plane has to look. */
  | 'taken'
  /** The address is no good any more. */
  | 'new-address'
  /** The body did not arrive as it was sent. */
  | 'mangled'
  | 'again'
  | 'full'
  | 'missing'
  | 'short'
  | 'refused'

/** S3 says 400 for these, though the request is right. */
const OF_THE_ADDRESS = /^(ExpiredToken|RequestExpired|TokenRefreshRequired)$/
const OF_THE_BODY = /^(BadDigest|InvalidDigest|XAmzContent\w*Mismatch|IncompleteBody|object_damaged)$/
const OF_THE_LINE = /^(RequestTimeout|SlowDown|InternalError|ServiceUnavailable|OperationAborted)$/

export function meaningOf(status: number, code: string): Meaning {
  if (status >= 200 && status < 300) return 'done'
  if (status === 401 || status === 403 || OF_THE_ADDRESS.test(code)) return 'new-address'
  if (status === 412) return 'taken'
  if (OF_THE_BODY.test(code)) return 'mangled'
  if (status === 507) return 'full'
  if (status >= 500 || [408, 409, 425, 429].includes(status) || OF_THE_LINE.test(code)) return 'again'
  // a body changed on its way is answered with 400 by every service, each with a code of its own
  if (status === 400) return 'mangled'
  if (status === 404 || status === 410) return 'missing'
  if (status === 416) return 'short'
  return 'refused'
}

/** An answer that is no object is read to here, for its `Code`. */
const PROBLEM_BYTES = 16 * 1024

/** A problem in the words of S3. All but its `Code` is dropped: it can repeat the signature. */
export class Problem implements Taker {
  #text = ''

  take(piece: Buffer): 'enough' | undefined {
    this.#text += piece.toString('latin1')
    return this.#text.length > PROBLEM_BYTES ? 'enough' : undefined
  }

  /** Empty when it says none. */
  get code(): string {
    return /<Code>([A-Za-z_]{1,64})<\/Code>/.exec(this.#text)?.[1] ?? ''
  }
}

/** What is said when it has to be given up. `what` names the object and the store's host, never the address. */
export function failure(meaning: Exclude<Meaning, 'done'>, what: string, status: number, code: string): HoldfastError {
  const context = { http_status: status, service_error: code || undefined }
  const say = `${what} (${[status, code].filter(Boolean).join(', ')})`
  switch (meaning) {
    case 'taken':
      return new HoldfastError('object_conflict', `${say}: something else has its name`, {
        hint: 'The store says that the object exists, and the control plane does not find it. Look at the bucket.',
        context,
      })
    case 'new-address':
      return new HoldfastError('target_denied', `${say}: the store refuses every address`, {
        hint: "Compare the clocks of control plane and store, and look at the rights of the control plane's credentials.",
        context,
      })
    case 'mangled':
      return new HoldfastError('object_damaged', `${say}: it did not arrive as it was sent`, {
        hint: 'Something between this host and the store changes data, or the memory of one is bad.',
        context,
      })
    case 'again':
      return new HoldfastError('target_unreachable', `${say}: the store does not take requests`, {
        hint: 'Look at the state of the store.',
        context,
      })
    case 'full':
      return new HoldfastError('disk_full', `${say}: the disk of the storage target is full`, {
        hint: 'Free space on that disk, shorten the retention, or move the target.',
        context,
      })
    case 'missing':
      return new HoldfastError('object_missing', `${say}: it is not there`, {
        hint: 'It was removed or never stored. Run validate on its backup, and restore from another copy.',
        context,
      })
    case 'short':
      return new HoldfastError('object_damaged', `${say}: it ends before the range that was asked for`, {
        hint: 'The object is shorter than its backup says. Run verify on the backup, and restore from another copy.',
        context,
      })
    case 'refused':
      return new HoldfastError('target_refused', `${say}: the store refuses this request`, {
        hint: 'The store or a proxy before it does not allow it; redirects are never followed.',
        context,
      })
  }
}
