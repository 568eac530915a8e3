import { expect, test } from 'vitest'
import { FakeClock } from '../../shared/fake-clock.ts'
import { Reporter } from './reporter.ts'

test('what engines add is summed, what the job knows as a total replaces', () => {
  const sent: unknown[] = []
  const reporter = new Reporter((message) => sent.push(message), new FakeClock())
  reporter.add({ phase: 'rows', objectsTotal: 10, totalBytes: 1000 })
  for (let n = 0; n < 3; n++) reporter.add({ objectsDone: 1, writtenBytes: 100 })
  reporter.report({ readBytes: 5 })
  reporter.report({ readBytes: 7 })
  expect(reporter.totals).toMatchObject({
    phase: 'rows',
    objectsTotal: 10,
    objectsDone: 3,
    writtenBytes: 300,
    totalBytes: 1000,
    readBytes: 7,
  })
  expect(sent.length).toBeGreaterThan(0)
})
