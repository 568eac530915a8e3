import type { JobView } from '../../control-plane/api/schemas/jobs.ts'
import { seededFaults } from '../harness/seeded.ts'
import { waitFor } from '../harness/wait.ts'
import type { FaultBench } from './bench.ts'
import { requireRightEnd } from './ends.ts'
import type { FaultKind } from './schedule.ts'
import { type HostName, require, type World } from './world.ts'

/** An operation may take this long, whatever is done to it. */
export const LIMIT_MS = 90_000

export interface Plan {
  readonly fault: FaultKind
  readonly host: HostName
  /** The request that is the middle of the operation. */
  readonly middle: Parameters<FaultBench['catchOne']>[0]
  readonly random: () => number
  start(): Promise<JobView>
}

export interface Strike {
  readonly job: JobView
  /** The fault met the job at work. */
  readonly struck: boolean
}

/** Starts the work, does the fault to it, and gives the job once it is over, as it has to be. */
export async function strike(world: World, plan: Plan): Promise<Strike> {
  const { bench } = world
  const { fault } = plan
  if (fault === 'target answers badly') bench.proxy.script = badAnswers(plan.random)
  if (fault === 'target slow') bench.proxy.script = () => SLOW
  const from = bench.proxy.seen.length
  const inTheMiddle = IN_THE_MIDDLE[fault]
  const { caught, release } = inTheMiddle ? bench.catchOne(plan.middle) : { caught: null, release: () => undefined }
  const job = await plan.start()
  let struck = false
  try {
    if (inTheMiddle) {
      const atWork = await Promise.race([caught?.then(() => true), finished(bench, job)])
      const done = await inTheMiddle(world, { host: plan.host, job, release })
      struck = atWork === true && done !== false
    }
    if (fault === 'database killed') struck = await killDatabase(world, job, plan.random)
  } finally {
    release()
  }
  const over = await bench.over(job, LIMIT_MS)
  if (ANSWERS.has(fault)) struck = bench.proxy.seen.slice(from).some((request) => request.fault.kind !== 'pass')
  bench.proxy.script = () => PASS
  requireRightEnd(over, await bench.holdfast.operator.events(job.id), { fault, struck })
  return { job: over, struck }
}

/** So many, and then it is well again: each is waited for a while, longer each time. */
const BAD_ANSWERS = 8

function badAnswers(random: () => number): FaultBench['proxy']['script'] {
  const script = seededFaults(Math.floor(random() * 2 ** 31), 0.25)
  let left = BAD_ANSWERS
  return () => {
    const fault = left > 0 ? script() : PASS
    if (fault.kind !== 'pass') left -= 1
    return fault
  }
}

/** Faults of the line to the store. */
const ANSWERS: ReadonlySet<FaultKind> = new Set(['target answers badly', 'target slow'])
const SLOW = { kind: 'slow', bytesPerSecond: 2_000_000 } as const
const PASS = { kind: 'pass' } as const

interface Caught {
  readonly host: HostName
  readonly job: JobView
  /** The request that is held goes on. */
  release(): void
}

/** What is done while one request of the operation is held; false where the job went on as if nothing had been done. */
const IN_THE_MIDDLE: Readonly<Partial<Record<FaultKind, (world: World, caught: Caught) => Promise<unknown>>>> = {
  'job killed': async ({ hosts }, { host }) => {
    const pids = await hosts[host].agent.jobProcesses()
    for (const pid of pids) process.kill(pid, 'SIGKILL')
    return pids.length > 0
  },
  'agent killed': async ({ hosts }, { host }) => {
    await hosts[host].agent.stop('SIGKILL')
    await hosts[host].agent.start()
  },
  'control plane stopped': (world) => world.restartServer('SIGTERM'),
  'control plane killed': (world) => world.restartServer('SIGKILL'),
  'stream cut': async ({ hosts }, { host }) => {
    hosts[host].line.cut()
    hosts[host].line.mend()
  },
  'stream held beyond the lease': async ({ bench, hosts }, { host, job }) => {
    hosts[host].line.hold()
    return givenUp(bench, job).finally(() => hosts[host].line.mend())
  },
  // a stream that stands renews the lease whatever the clock says
  'lease ends by the clock': async ({ bench, hosts }, { host, job }) => {
    hosts[host].line.cut()
    return bench.clock.ahead(10_000, () => givenUp(bench, job)).finally(() => hosts[host].line.mend())
  },
  'clock jumps': async ({ bench }) => {
    // each move makes the control plane look at every lease
    for (let times = 0; times < 3; times++)
      await bench.clock.ahead(3_600_000, () => bench.holdfast.operator.ask('GET', '/readyz'))
  },
  'disk full': async ({ bench, hosts }, { host, job, release }) => {
    await hosts[host].disk?.fill()
    release()
    return givenUp(bench, job).finally(() => hosts[host].disk?.empty())
  },
  cancelled: async ({ bench }, { job }) => {
    const { status, body } = await bench.holdfast.operator.call('POST', `/api/v1/jobs/${job.id}/cancel`, {})
    // it was over before
    if (status === 409) return false
    require(status < 300, `the cancel of ${job.id} was answered ${status}: ${JSON.stringify(body)}`)
    // its request is held until then: who is told to end does not wait for the store
    return waitFor(`the cancelled ${job.kind} ${job.id} to end`, async () => (await bench.look(job.id)).finished_at !== null)
  },
}

/** While the engine works on it: at the first look that finds it there, or a few later, as the seed draws. */
async function killDatabase({ bench, postgres }: World, job: JobView, random: () => number): Promise<boolean> {
  if (!postgres) return false
  const sql = postgres.connect('postgres')
  let looks = 1 + Math.floor(random() * 12)
  const atWork = async () => {
    const found = await sql`select from pg_stat_activity where application_name like 'holdfast%'`
    if (found.length > 0) looks -= 1
    return looks <= 0 || (await bench.look(job.id)).finished_at !== null
  }
  try {
    await waitFor('the engine to be at work', atWork, { everyMs: 5, timeoutMs: LIMIT_MS })
  } finally {
    await sql.end({ timeout: 1 })
  }
  await postgres.kill()
  return givenUp(bench, job).finally(() => postgres.restart())
}

/** The attempt at work is over for the control plane: true; or the job is. */
async function givenUp(bench: FaultBench, job: JobView): Promise<boolean> {
  const seen = await waitFor(`attempt 1 of the ${job.kind} ${job.id} to be given up`, async () => {
    const now = await bench.look(job.id)
    const lost = now.status === 'lost' || (now.status === 'queued' && now.attempt > 0) || now.attempt > 1
    return (lost || now.finished_at !== null) && { lost }
  })
  return seen.lost
}

/** Nothing came in its middle: false. */
async function finished(bench: FaultBench, job: JobView): Promise<false> {
  await waitFor('the job to be over', async () => (await bench.look(job.id)).finished_at, {
    timeoutMs: LIMIT_MS,
    everyMs: 100,
  }).catch(() => undefined)
  return false
}
