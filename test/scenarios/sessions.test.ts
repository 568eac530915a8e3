import { afterEach, beforeEach, expect, test } from 'vitest'
import { TestFleet } from '../harness/fleet.ts'
import { waitFor } from '../harness/wait.ts'

let fleet: TestFleet
beforeEach(async () => {
  fleet = await TestFleet.start()
})
afterEach(() => fleet.dispose())

test('an agent enrols, connects, and messages go both ways', async () => {
  const plane = await fleet.plane()
  const { home } = await fleet.enrolled(plane, 'db1')
  const commands: unknown[] = []
  const link = await fleet.link(home, { onCommand: (command) => void commands.push(command) })
  await waitFor('the link', () => link.connected)
  const session = await waitFor('the session', () => plane.servers.sessions.get(link.identity.agentId))
  await session.send({ $case: 'cancelJob', value: { jobId: 'j1', attempt: 1, reason: 'test' } })
  await waitFor('the command', () => commands.length === 1)
  expect(link.send({ message: { $case: 'jobAccepted', value: { jobId: 'j1', attempt: 1 } } })).toBe(true)
  await waitFor('the message', () => plane.handler.messages.length === 1)
})
