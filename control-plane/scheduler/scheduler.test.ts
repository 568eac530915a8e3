import { expect, test } from 'vitest'
import { createLogger } from '../../shared/log.ts'
import { startScheduler } from './scheduler.ts'

const lines: string[] = []
const log = createLogger({ destination: { write: (line) => void lines.push(line) } })

test('a task runs again after it failed, never beside itself, and none begins after the stop', async () => {
  let runs = 0
  let together = 0
  let most = 0
  let wake = (): void => undefined
  const second = new Promise<void>((resolve) => (wake = resolve))
  const scheduler = startScheduler(
    [
      {
        name: 'often',
        when: '* * * * * *',
        run: async () => {
          most = Math.max(most, ++together)
          runs++
          together--
          if (runs === 2) wake()
          throw new Error('not this time')
        },
      },
    ],
    log,
  )
  await second
  await scheduler.stop()
  const after = runs
  expect(most).toBe(1)
  expect(lines.filter((line) => line.includes('a periodic task failed')).length).toBe(runs)
  await new Promise((resolve) => setImmediate(resolve))
  expect(runs).toBe(after)
})
