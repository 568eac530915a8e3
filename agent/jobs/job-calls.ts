import type { Clock } from '../../shared/clock.ts'
import { asHoldfastError, HoldfastError, isHoldfastError } from '../../shared/errors.ts'
import type { ObjectServiceClient } from '../../shared/generated/holdfast/agent/v1/objects.ts'
import type { Facts, SignedFacts } from '../../shared/manifest/manifest.ts'
import type { Journal } from './journal.ts'
import type { JobLimits } from './limits.ts'
import type { ParentCalls } from './messages.ts'

export interface CallDeps {
  readonly objects: Pick<ObjectServiceClient, 'signPuts' | 'signGets' | 'askUnlock' | 'openBackups' | 'commitBackup'>
  readonly signFacts: (facts: Facts) => SignedFacts
  readonly journal: Journal
  readonly clock: Clock
  /** How long a call is tried again while the control plane cannot be reached. */
  readonly offlineLimitMs: number
  readonly limits: Pick<JobLimits, 'take'>
}

/** The calls of one attempt's process, made with the agent's connection and identity. A lost stream never ends a job: they wait for it. */
export function jobCalls(deps: CallDeps, job: { jobId: string; attempt: number }, signal: AbortSignal): ParentCalls {
  const { jobId, attempt } = job
  const call = <T>(make: () => Promise<T>): Promise<T> => untilOffline(deps, signal, make)
  return {
    signPuts: (objects) => call(() => deps.objects.signPuts({ jobId, attempt, objects }, { signal })),
    signGets: (objects) => call(() => deps.objects.signGets({ jobId, attempt, objects }, { signal })),
    askUnlock: (recipient) => call(() => deps.objects.askUnlock({ jobId, attempt, recipient }, { signal })),
    openBackups: (recipient) => call(() => deps.objects.openBackups({ jobId, attempt, recipient }, { signal })),
    commitBackup: ({ facts, detail }) => {
      const signed = Buffer.from(JSON.stringify(deps.signFacts(facts)))
      const request = { jobId, attempt, facts: signed, detailJson: JSON.stringify(detail) }
      return call(() => deps.objects.commitBackup(request, { signal })).catch(async (error: unknown) => {
        // else each further attempt would name the same packs, and be refused for the same reason
        if (isHoldfastError(error, 'object_missing')) await deps.journal.forgetPacks(jobId)
        throw error
      })
    },
    take: async ({ direction, bytes }) => {
      await deps.limits.take(direction, bytes, signal)
      return null
    },
    packStored: async (pack) => {
      await deps.journal.packStored(jobId, attempt, {
        ...pack,
        sha256: Buffer.from(pack.sha256),
        chunks: Buffer.from(pack.chunks),
      })
      return null
    },
  }
}

/** Says nothing about the job: the control plane, or what it stands on, is away for now. Each of the calls may be repeated. */
const AWAY = new Set(['control_plane_unreachable', 'deadline_exceeded', 'target_unreachable', 'catalog_unreachable'])

async function untilOffline<T>(deps: CallDeps, signal: AbortSignal, make: () => Promise<T>): Promise<T> {
  const giveUpAt = deps.clock.monotonicMs() + deps.offlineLimitMs
  for (let wait = 250; ; wait = Math.min(wait * 2, 5000)) {
    try {
      return await make()
    } catch (error) {
      signal.throwIfAborted()
      const failure = asHoldfastError(error)
      if (!AWAY.has(failure.code)) throw failure
      if (deps.clock.monotonicMs() + wait > giveUpAt) {
        throw new HoldfastError('agent_offline', 'the control plane could not be reached for as long as offline_limit allows', {
          hint: 'The job fails and is tried again; what it stored is used again.',
          cause: failure,
        })
      }
      await deps.clock.sleep(wait, signal)
    }
  }
}
