import os from 'node:os'
import { afterEach, expect, test, vi } from 'vitest'
import { HoldfastError } from '../../shared/errors.ts'
import { FakeClock } from '../../shared/fake-clock.ts'
import { AgentLimits, type DiskPriority, ProcessorPriority } from '../../shared/generated/holdfast/agent/v1/session.ts'
import { createLogger } from '../../shared/log.ts'
import type { Finding } from '../../shared/results.ts'
import { setGroupDisk, setGroupNice } from '../process/priority.ts'
import { JobPriority } from './job-priority.ts'
import { JobLimits } from './limits.ts'

// of this process itself they are never changed: other tests run in it
vi.mock('../process/priority.ts', () => ({ setGroupNice: vi.fn(), setGroupDisk: vi.fn() }))
afterEach(() => vi.resetAllMocks())

test('what a host refuses is a finding, and the job goes on with the rest', async () => {
  const findings: Finding[] = []
  vi.mocked(setGroupNice).mockImplementation(() => {
    throw new HoldfastError('not_supported', 'this host does not let the job take it (EACCES)', { hint: 'Wait.' })
  })
  await new JobPriority((finding) => findings.push(finding)).set({ nice: 0, disk: 'idle' })
  expect(findings).toEqual([
    {
      code: 'processor_priority_refused',
      severity: 'warning',
      message: 'this host does not let the job take it (EACCES)',
      hint: 'Wait.',
    },
  ])
  expect(setGroupDisk).toHaveBeenCalledWith('idle')
})

test('only what changes is set, in the order said', async () => {
  const priority = new JobPriority(() => undefined)
  await priority.set({ nice: 5, disk: 'normal' })
  await Promise.all([
    priority.set({ nice: 19, disk: 'normal' }),
    priority.set({ nice: 19, disk: 'low' }),
    priority.set({ nice: 5, disk: 'low' }),
  ])
  expect(vi.mocked(setGroupNice).mock.calls).toEqual([[19], [5]])
  expect(vi.mocked(setGroupDisk).mock.calls).toEqual([['low']])
})

test('a job never has a higher priority than its agent, and what an agent does not know is as if it was not said', () => {
  const limits = (ownNice: number, processor: ProcessorPriority) => {
    const of = new JobLimits(new FakeClock(), createLogger({ level: 'silent' }), ownNice)
    of.set(AgentLimits.fromPartial({ processor, disk: 99 as DiskPriority, uploadBytesPerSecond: 0n }))
    return of.plain
  }
  expect(limits(0, ProcessorPriority.NORMAL)).toEqual({ upload: null, download: null, nice: 0, disk: 'normal' })
  expect(limits(10, ProcessorPriority.NORMAL).nice).toBe(10)
  expect(limits(10, ProcessorPriority.LOWEST).nice).toBe(os.constants.priority.PRIORITY_LOW)
  expect(limits(0, 99 as ProcessorPriority).nice).toBe(5)
})
