import { readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { agentById } from '../../control-plane/catalog/identity-agents.ts'
import { FakeClock } from '../../shared/fake-clock.ts'
import { recordingLog, TestFleet } from '../harness/fleet.ts'
import { waitFor } from '../harness/wait.ts'

const DAY = 86_400_000
let clock: FakeClock
let fleet: TestFleet
beforeEach(async () => {
  clock = new FakeClock(new Date())
  fleet = await TestFleet.start(clock)
})
afterEach(() => fleet.dispose())

const skewIn = (lines: Array<Record<string, unknown>>) => lines.find((line) => String(line.msg).includes('suspected clock skew'))

describe('a certificate-time failure is reported by the agent as suspected clock skew, on both sides', () => {
  test('while it enrols, before the token is sent', async () => {
    const plane = await fleet.plane()
    const token = await fleet.token('db1')
    const behind = new FakeClock(new Date(Date.now() - 42 * DAY))
    const error = await fleet.enrolled(plane, 'db1', { token, clock: behind }).then(
      () => null,
      (thrown: Error & { code: string; hint: string }) => thrown,
    )
    expect(error).toMatchObject({ code: 'clock_skew', hint: expect.stringContaining('clock') })
    expect(error?.message).toContain("the control plane's clock")
    expect(skewIn(plane.lines)).toMatchObject({ level: 'warn', offset_seconds: expect.closeTo((-42 * DAY) / 1000, -2) })
    expect((await fleet.enrolled(plane, 'db1', { token })).identity.name).toBe('db1')
  })

  test('when it connects', async () => {
    const first = await fleet.plane()
    const { home, identity } = await fleet.enrolled(first, 'db1')
    // by this machine's clock the control plane's certificate has ended: that is what an agent 100 days ahead sees
    clock.setWall(new Date(Date.now() - 100 * DAY))
    const plane = await fleet.plane()
    const file = path.join(home, 'identity', 'identity.json')
    const told = { agents_address: plane.agents, enrolment_address: plane.enrolment }
    await writeFile(file, JSON.stringify({ ...JSON.parse(await readFile(file, 'utf8')), ...told }))
    const { log, lines } = recordingLog()
    const link = await fleet.link(home, { log })
    await waitFor('the trouble', () => link.trouble)
    expect(link.trouble).toMatchObject({ code: 'clock_skew', message: expect.stringContaining("the control plane's clock") })
    expect(skewIn(lines)).toMatchObject({ level: 'error', code: 'clock_skew' })
    expect(skewIn(plane.lines)).toMatchObject({
      level: 'warn',
      agent: 'db1',
      offset_seconds: expect.closeTo((100 * DAY) / 1000, -2),
    })
    const row = await agentById(fleet.catalog.db, identity.agentId)
    expect(row?.clockOffsetMs ?? 0).toBeGreaterThan(99 * DAY)
  })
})

test('an agent whose clock differs but whose certificates hold works, and the difference is said on both sides', async () => {
  const plane = await fleet.plane()
  const { home, identity } = await fleet.enrolled(plane, 'db1')
  const { log, lines } = recordingLog()
  const ahead = new FakeClock(new Date(Date.now() + 0.4 * DAY))
  const link = await fleet.link(home, { clock: ahead, log })
  await waitFor('the link', () => link.connected)
  expect(skewIn(lines)).toMatchObject({ offset_seconds: expect.closeTo((0.4 * DAY) / 1000, -2) })
  await waitFor('the log', () => skewIn(plane.lines))
  const row = await agentById(fleet.catalog.db, identity.agentId)
  expect(row?.clockOffsetMs ?? 0).toBeGreaterThan(0.39 * DAY)
})
