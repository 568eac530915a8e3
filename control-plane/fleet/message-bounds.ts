import { HoldfastError } from '../../shared/errors.ts'
import { requireSources } from './hello.ts'
import type { AgentMessage } from './live-session.ts'

/** What one message of a stream may hold: an agent that was taken over must not fill this process's memory or the catalog. */
const MAX_TEXT = 64 * 1024
const MAX_DETAIL = 1024 * 1024

/** Throws `invalid_argument`, which ends the stream. */
export function requireBounded(message: AgentMessage): void {
  switch (message.$case) {
    case 'sourcesChanged':
      return requireSources(message.value.sources)
    case 'jobProgress':
      return texts({ id: message.value.jobId, phase: message.value.phase })
    case 'jobAccepted':
      return texts({ id: message.value.jobId })
    case 'jobRefused':
      return texts({ id: message.value.jobId, ...message.value.error })
    case 'jobFinding':
      return texts({ ...message.value })
    case 'jobLog':
      return texts({ ...message.value })
    case 'jobResult':
      if (Buffer.byteLength(message.value.detailJson) > MAX_DETAIL) throw tooLarge('detail')
      return texts({ id: message.value.jobId, phase: message.value.totals?.phase, ...message.value.error })
  }
}

function texts(fields: Readonly<Record<string, unknown>>): void {
  for (const [name, value] of Object.entries(fields)) {
    if (typeof value === 'string' && value.length > MAX_TEXT) throw tooLarge(name)
  }
}

const tooLarge = (field: string) =>
  new HoldfastError('invalid_argument', `a message of the stream is too large in its field ${field}`, {
    hint: 'Update the agent.',
  })
