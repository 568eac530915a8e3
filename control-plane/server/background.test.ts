import { expect, test, vi } from 'vitest'
import type { ControlPlane } from '../usecases/control-plane.ts'
import { backgroundTasks } from './background.ts'

const published = vi.hoisted(() => vi.fn(async () => undefined))
const left = vi.hoisted(() => vi.fn())
vi.mock('../../shared/spare-memory.ts', () => ({ leaveSpareMemory: left }))
vi.mock('../usecases/audit-heads.ts', () => ({ publishAuditHead: published }))

test('the audit head is published hourly', async () => {
  const cp = {} as ControlPlane
  const task = backgroundTasks(cp, 0, async () => undefined).find(({ name }) => name === 'audit head')
  // second and minute are numbers, everything after them is every
  expect(task?.when).toMatch(/^\d+ \d+ \* \* \* \*$/)
  await task?.run()
  expect(published).toHaveBeenCalledWith(cp)
})

test('what a control plane does not use of its memory is given back every few minutes', async () => {
  const task = backgroundTasks({} as ControlPlane, 0, async () => undefined).find(({ name }) => name === 'spare memory')
  expect(task?.when).toMatch(/^\d+ \*\/\d \* \* \* \*$/)
  await task?.run()
  expect(left).toHaveBeenCalledOnce()
})
