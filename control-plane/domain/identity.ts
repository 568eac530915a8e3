import type { ErrorCode } from '../../shared/errors.ts'

/** Who may have a certificate. Pure: the caller brings rows and time. */

export interface TokenFacts {
  readonly expiresAt: Date
  readonly usedAt: Date | null
  /** Of the key that it was used with. */
  readonly publicKeySha256: Buffer | null
}

export type TokenJudgement = 'fresh' | 'repeat' | Extract<ErrorCode, 'token_used' | 'token_expired'>

/** The same token with the same public key within its time is a repeated question: a lost reply must not burn the token. */
export function judgeToken(token: TokenFacts, publicKeySha256: Buffer, now: Date): TokenJudgement {
  const expired = now > token.expiresAt
  if (token.usedAt === null) return expired ? 'token_expired' : 'fresh'
  return !expired && token.publicKeySha256?.equals(publicKeySha256) ? 'repeat' : 'token_used'
}

export interface RenewalFacts {
  /** Generation of the certificate that the caller presented, and the newest one that was issued to its agent. */
  readonly presented: number
  readonly current: number
  /** Keys of the newest certificate and of the request. */
  readonly currentKey: Buffer
  readonly requestedKey: Buffer
}

export type RenewalJudgement = 'issue' | 'repeat' | 'reuse' | 'clone'

/**
 * `issue`: the newest generation asks for the next. `repeat`: the generation before it asks again for what it was already
 * given, with the same key: its reply was lost. `reuse`: a renewal brings a new key. `clone`: an older generation with another
 * key, so that two hold one identity, or one was put back from a copy: nobody can say which is the right one.
 */
export function judgeRenewal(facts: RenewalFacts): RenewalJudgement {
  const sameKey = facts.requestedKey.equals(facts.currentKey)
  if (facts.presented === facts.current) return sameKey ? 'reuse' : 'issue'
  return facts.presented === facts.current - 1 && sameKey ? 'repeat' : 'clone'
}

/** Beyond this a person is told that a clock is wrong. Certificates are issued that much before their time (shared/x509). */
export const CLOCK_TOLERANCE_MS = 5 * 60_000

export const isSkewed = (offsetMs: number): boolean => Math.abs(offsetMs) > CLOCK_TOLERANCE_MS
