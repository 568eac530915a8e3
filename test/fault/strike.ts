import type { JobView } from '../../control-plane/api/schemas/jobs.ts'
import { seededFaults } from '../harness/seeded.ts'
import { waitFor } from '../harness/wait.ts'
import type { FaultBench } from './bench.ts'
import type { FaultKind } from './schedule.ts'
import { type HostName, require, type World } from './world.ts'

/** An operation may take this long, whatever is done to it. */
export const LIMIT_MS = 90_000

export interface Struck {
  readonly fault: FaultKind
  readonly host: HostName
  /** The request that is the middle of the operation. */
  readonly middle: Parameters<FaultBench['catchOne']>[0]
  readonly random: () => number
  start(): Promise<JobView>
}

/** Starts the work, does the fault to it, and gives the job once it is over. */
export async function strike(world: World, struck: Struck): Promise<JobView> {
  const { bench } = world
  const { fault } = struck
  if (fault === 'target answers badly') bench.proxy.script = badAnswers(struck.random)
  if (fault === 'target slow') bench.proxy.script = () => ({ kind: 'slow', bytesPerSecond: 2_000_000 })
  const inTheMiddle = IN_THE_MIDDLE[fault]
  const { caught, release } = inTheMiddle ? bench.catchOne(struck.middle) : { caught: null, release: () => undefined }
  const job = await struck.start()
  try {
    if (inTheMiddle) {
      await Promise.race([caught, finished(bench, job)])
      await inTheMiddle(world, { host: struck.host, job, release })
    }
    if (fault === 'database killed') await killDatabase(world, job, struck.random)
  } finally {
    release()
  }
  const over = await bench.over(job, LIMIT_MS)
  bench.proxy.script = () => ({ kind: 'pass' })
  require(over.status !== 'failed' || over.error !== null, `the failed ${over.kind} ${over.id} says no reason`)
  require(over.error?.code !==
    'internal', `the failed ${over.kind} ${over.id} says no reason of ours: ${JSON.stringify(over.error)}`)
  require(fault !== 'clock jumps' || over.attempt === 1, `a clock that jumped made the ${over.kind} ${over.id} be given up`)
  return over
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

const PASS = { kind: 'pass' } as const

interface Caught {
  readonly host: HostName
  readonly job: JobView
  /** The request that is held goes on. */
  release(): void
}

/** What is done while one request of the operation is held. */
const IN_THE_MIDDLE: Readonly<Partial<Record<FaultKind, (world: World, caught: Caught) => Promise<void>>>> = {
  'job killed': async ({ hosts }, { host }) => {
    for (const pid of await hosts[host].agent.jobProcesses()) process.kill(pid, 'SIGKILL')
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
    await givenUp(bench, job).finally(() => hosts[host].line.mend())
  },
  // a stream that stands renews the lease whatever the clock says
  'lease ends by the clock': async ({ bench, hosts }, { host, job }) => {
    hosts[host].line.cut()
    await bench.clock.ahead(10_000, () => givenUp(bench, job)).finally(() => hosts[host].line.mend())
  },
  'clock jumps': async ({ bench }) => {
    // each move makes the control plane look at every lease
    for (let times = 0; times < 3; times++)
      await bench.clock.ahead(3_600_000, () => bench.holdfast.operator.ask('GET', '/readyz'))
  },
  'disk full': async ({ bench, hosts }, { host, job, release }) => {
    await hosts[host].disk?.fill()
    release()
    await givenUp(bench, job).finally(() => hosts[host].disk?.empty())
  },
  cancelled: async ({ bench }, { job }) => {
    // 409: it was over before
    await bench.holdfast.operator.call('POST', `/api/v1/jobs/${job.id}/cancel`, {})
  },
}

/** While the engine works on it: at the first look that finds it there, or a few later, as the seed draws. */
async function killDatabase({ bench, postgres }: World, job: JobView, random: () => number): Promise<void> {
  if (!postgres) return
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
  await givenUp(bench, job).finally(() => postgres.restart())
}

/** The attempt at work is over for the control plane, or the job is. */
async function givenUp(bench: FaultBench, job: JobView): Promise<void> {
  await waitFor(`attempt 1 of the ${job.kind} ${job.id} to be given up`, async () => {
    const now = await bench.look(job.id)
    return now.status === 'lost' || (now.status === 'queued' && now.attempt > 0) || now.finished_at !== null || now.attempt > 1
  })
}

async function finished(bench: FaultBench, job: JobView): Promise<void> {
  await waitFor('the job to be over', async () => (await bench.look(job.id)).finished_at, {
    timeoutMs: LIMIT_MS,
    everyMs: 100,
  }).catch(() => undefined)
}
