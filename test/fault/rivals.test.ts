import { describe, expect, it } from 'vitest'
import type { JobView } from '../../control-plane/api/schemas/jobs.ts'
import { type RivalsResult, requireRightEnds } from './rivals.ts'

const OVERLAP = { code: 'overlap', message: 'another restore writes the same place' }
const CONFLICT = { code: 'conflict', message: 'another restore into database "both" is running' }
const EXISTS = { code: 'preflight_failed', message: 'pre-flight found source_exists: database "both" exists' }
const KILLED = { code: 'agent_crashed', message: 'the process of the job ended' }
const FULL = { code: 'disk_full', message: 'no space left' }

/** One that failed so often, and then succeeded or not. */
const restore = (status: JobView['status'], ...failures: RivalsResult['first']['failures'][number][]): RivalsResult['first'] => ({
  job: { status, attempt: failures.length + (status === 'succeeded' ? 1 : 0) } as JobView,
  failures,
})

const agent = { guard: 'agent', killed: false } as const
const server = { guard: 'server', killed: false } as const
const good = restore('succeeded')

describe('two restores into one place', () => {
  it('end with the first good and the second told of it', () => {
    expect(() => requireRightEnds({ ...agent, first: good, second: restore('failed', OVERLAP) })).not.toThrow()
    expect(() => requireRightEnds({ ...server, first: good, second: restore('failed', CONFLICT, EXISTS) })).not.toThrow()
  })

  it('may not both be good, nor both have failed', () => {
    expect(() => requireRightEnds({ ...agent, first: good, second: good })).toThrow('one of two')
    expect(() => requireRightEnds({ ...server, killed: true, first: restore('succeeded', KILLED), second: good })).toThrow(
      'one of two',
    )
    expect(() =>
      requireRightEnds({ ...server, first: restore('failed', CONFLICT), second: restore('failed', CONFLICT) }),
    ).toThrow('one of two')
  })

  it('do not change places while the first lives', () => {
    expect(() => requireRightEnds({ ...agent, first: restore('failed', OVERLAP), second: good })).toThrow('keeps it')
    expect(() => requireRightEnds({ ...agent, first: good, second: restore('failed', OVERLAP, OVERLAP) })).toThrow(
      'not tried again',
    )
    expect(() => requireRightEnds({ ...server, first: good, second: restore('failed', EXISTS) })).toThrow('told of the first')
  })

  it('fail for nothing else than the other', () => {
    expect(() => requireRightEnds({ ...agent, first: good, second: restore('failed', FULL) })).toThrow('for that alone')
    expect(() => requireRightEnds({ ...server, first: good, second: restore('failed', CONFLICT, OVERLAP) })).toThrow(
      'for that alone',
    )
  })

  it('may both be good over what exists, when the first was killed and tried again', () => {
    const killed = { ...agent, killed: true }
    expect(() => requireRightEnds({ ...killed, first: restore('succeeded', KILLED), second: good })).not.toThrow()
    expect(() => requireRightEnds({ ...killed, first: restore('failed', KILLED, OVERLAP), second: good })).not.toThrow()
    expect(() => requireRightEnds({ ...killed, first: good, second: restore('failed', OVERLAP) })).toThrow('tried again')
  })
})
