import type { CallDeps } from '../../../agent/jobs/job-calls.ts'
import type { JobStart, PlainError } from '../../../agent/jobs/messages.ts'

/** Between agent-program.ts and the test that started it (structured clone). */

export type ToAgent =
  | ({ readonly type: 'open'; readonly home: string } & Pick<JobStart, 'agent' | 'sources'>)
  /** Encoded JobCommand. */
  | { readonly type: 'command'; readonly command: Uint8Array }
  | { readonly type: 'confirmed'; readonly jobId: string; readonly attempt: number; readonly final: boolean }
  | { readonly type: 'answer'; readonly call: number; readonly value?: unknown; readonly error?: PlainError }

export type FromAgent =
  | { readonly type: 'started' | 'kept' }
  /** The journal was read: the jobs in it. */
  | { readonly type: 'opened'; readonly jobs: readonly string[] }
  | { readonly type: 'failed'; readonly error: PlainError }
  /** The process of a job. */
  | { readonly type: 'job'; readonly pid: number }
  /** Encoded ConnectRequest. */
  | { readonly type: 'message'; readonly message: Uint8Array }
  | { readonly type: 'call'; readonly call: number; readonly method: keyof CallDeps['objects']; readonly request: unknown }
