import { describe, expect, it } from 'vitest'
import type { JobEventView, JobView } from '../../control-plane/api/schemas/jobs.ts'
import { type Met, requireRightEnd } from './ends.ts'

const AWAY = { code: 'target_unreachable', message: 'the store does not answer', hint: null }
const BAD: Met = { fault: 'target answers badly', struck: true }

const state = (attempt: number, name: string, error: typeof AWAY | null = null): JobEventView => ({
  ...{ id: null, type: 'state', at: '2026-01-01T00:00:00Z', attempt },
  data: { state: name, error, cancel_requested: false },
})

/** A job with its events: each error but the last was followed by another attempt. */
function lived(status: JobView['status'], errors: ReadonlyArray<typeof AWAY | null>): [JobView, JobEventView[]] {
  const last = errors.length - 1
  const events = errors.flatMap((error, n) => [
    ...[state(n + 1, 'dispatched'), state(n + 1, 'running')],
    n < last ? state(n + 1, 'queued', error) : state(n + 1, status, error),
  ])
  return [{ id: 'j', kind: 'backup', status, attempt: errors.length, error: errors[last] } as JobView, events]
}

describe('the end of a job that met a fault', () => {
  it('may be a failure after as many attempts as there are', () => {
    expect(() => requireRightEnd(...lived('failed', [AWAY, AWAY, AWAY]), BAD)).not.toThrow()
    expect(() => requireRightEnd(...lived('failed', [AWAY]), BAD)).toThrow('until the last attempt')
    expect(() => requireRightEnd(...lived('failed', [AWAY, AWAY]), BAD)).toThrow('until the last attempt')
  })

  it('may be one after the first attempt for what does not pass, which a pre-flight names in its message', () => {
    const refused = { ...AWAY, code: 'target_refused' }
    const found = (code: string) => ({ ...AWAY, code: 'preflight_failed', message: `pre-flight found ${code}: no` })
    expect(() => requireRightEnd(...lived('failed', [refused]), BAD)).not.toThrow()
    expect(() => requireRightEnd(...lived('failed', [found('source_denied')]), BAD)).not.toThrow()
    expect(() => requireRightEnd(...lived('failed', [found('source_unreachable')]), BAD)).toThrow('until the last attempt')
  })

  it('is good where the fault passes, or never came', () => {
    for (const met of [
      { fault: 'none', struck: false },
      { fault: 'database killed', struck: true },
      { fault: 'target answers badly', struck: false },
      { fault: 'cancelled', struck: false },
    ] satisfies Met[]) {
      expect(() => requireRightEnd(...lived('succeeded', [AWAY, null]), met)).not.toThrow()
      expect(() => requireRightEnd(...lived('failed', [AWAY, AWAY, AWAY]), met)).toThrow('makes no job fail')
      expect(() => requireRightEnd(...lived('cancelled', [null]), met)).toThrow('makes no job fail')
    }
  })

  it('is `cancelled` for a job that was asked to end at its work', () => {
    const met: Met = { fault: 'cancelled', struck: true }
    expect(() => requireRightEnd(...lived('cancelled', [null]), met)).not.toThrow()
    expect(() => requireRightEnd(...lived('succeeded', [null]), met)).toThrow('makes no job fail')
  })

  it('comes after another attempt where the process was killed, and after no other where the clock jumped', () => {
    expect(() => requireRightEnd(...lived('succeeded', [null]), { fault: 'job killed', struck: true })).toThrow('tried again')
    expect(() => requireRightEnd(...lived('succeeded', [AWAY, null]), { fault: 'clock jumps', struck: true })).toThrow('jumps')
  })

  it('comes after attempts that each failed with a reason of ours', () => {
    const internal = { ...AWAY, code: 'internal' }
    expect(() => requireRightEnd(...lived('succeeded', [internal, null]), BAD)).toThrow('not ours')
    expect(() => requireRightEnd(...lived('succeeded', [null, null]), BAD)).toThrow('with a reason')
    const [job, events] = lived('succeeded', [AWAY, null])
    expect(() =>
      requireRightEnd(
        job,
        events.filter(({ attempt }) => attempt > 1),
        BAD,
      ),
    ).toThrow('attempt 1 was given out')
  })
})
