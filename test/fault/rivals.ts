import type { JobView } from '../../control-plane/api/schemas/jobs.ts'
import { waitFor } from '../harness/wait.ts'
import { rangeOf } from './bench.ts'
import type { Rivals } from './schedule.ts'
import type { TwoNames } from './seed-source.ts'
import { LIMIT_MS } from './strike.ts'
import { require, type World } from './world.ts'

export interface RivalsResult extends Rivals {
  /** Who keeps two names of the place apart. */
  readonly guard: TwoNames['guard']
  readonly first: Ended
  readonly second: Ended
}

interface Ended {
  readonly job: JobView
  /** Why its attempts ended that did not succeed, in order. */
  readonly failures: readonly Failure[]
}

interface Failure {
  readonly code: string
  readonly message: string
}

/** More than what is read of a pack before the place is taken: its end, and lists. */
const CONTENT_BYTES = 2 ** 17

/**
 * Two restores of one backup into one place, the second while the first has the place and lacks content. By the same name the control plane refuses it; by another
 * name, whoever guards the place. Throws what was broken; what lies in the place afterwards is looked at by the caller.
 */
export async function runRivals(world: World, backup: string, place: TwoNames, rivals: Rivals): Promise<RivalsResult> {
  const { bench, hosts } = world
  const [name, otherName] = place.names
  const start = async (request: Record<string, unknown>) =>
    world.watchRestore(await bench.holdfast.operator.startRestore(backup, request))
  const { caught, release } = bench.catchOne((request) => rangeOf(request) > CONTENT_BYTES)
  try {
    const { id } = await start(name)
    let held = false
    void caught.then(() => {
      held = true
    })
    await waitFor(`the restore ${id} to read content`, async () => held || (await bench.look(id)).finished_at !== null)
    require(held, `the restore ${id} was over before its content was read`)
    await waitFor(`the restore ${id} to have its place`, () => world.hasPlace(id, place))
    await requireRefused(world, backup, name)
    if (rivals.killed) {
      const [pid, ...others] = await hosts[place.host].agent.jobProcesses()
      require(pid !== undefined && others.length === 0, `the restore ${id} is not one process at work`)
      process.kill(pid as number, 'SIGKILL')
    }
    const second = await start(otherName)
    if (!rivals.killed) await requireKeptOff(world, id, second)
    release()
    // the first has the longer way where it was killed
    const ends = rivals.killed ? [second.id, id] : [id, second.id]
    for (const one of ends) await bench.over(await bench.look(one), LIMIT_MS)
    const result = { ...rivals, guard: place.guard, first: await ended(world, id), second: await ended(world, second.id) }
    requireRightEnds(result)
    return result
  } finally {
    release()
    bench.proxy.script = () => ({ kind: 'pass' })
  }
}

/** Before there is a job. */
async function requireRefused({ bench }: World, backup: string, name: Record<string, unknown>): Promise<void> {
  const { status, body } = await bench.holdfast.operator.call('POST', `/api/v1/backups/${backup}/restore`, name)
  const said = `a second restore into ${name.target} was answered ${status}: ${JSON.stringify(body)}`
  require(status === 409 && (body as { code?: string }).code === 'overlap', said)
}

/** The first attempt of the second is over, and the first is at work as before. */
async function requireKeptOff({ bench }: World, first: string, { id }: JobView): Promise<void> {
  await waitFor(`the restore ${id} to be kept from its place`, async () => {
    const now = await bench.look(id)
    return now.finished_at !== null || (now.status === 'queued' && now.attempt > 0)
  })
  const { status, attempt } = await bench.look(first)
  require(status === 'running' && attempt === 1, `the restore ${first} is ${status} in attempt ${attempt} since ${id} came`)
}

async function ended({ bench }: World, id: string): Promise<Ended> {
  const events = await bench.holdfast.operator.events(id)
  const failures = events.flatMap(({ type, data }) => (type === 'state' && data.error ? [data.error as unknown as Failure] : []))
  return { job: await bench.look(id), failures }
}

/** Throws unless the two ended as the product promises. */
export function requireRightEnds({ killed, guard, first, second }: RivalsResult): void {
  const both = [first, second]
  const say = (what: string) => `${what}: ${JSON.stringify(both)}`
  const good = both.filter(({ job }) => job.status === 'succeeded')
  // over what exists, the one that comes later may replace what the earlier one has made
  const mayBothSucceed = killed && guard === 'agent'
  require(good.length === 1 || (good.length === 2 && mayBothSucceed), say('one of two restores into one place succeeds'))
  for (const { job, failures } of both) {
    require(['succeeded', 'failed'].includes(job.status), say('a restore that nobody cancelled succeeds or fails'))
    const mine = killed && job === first.job ? failures.slice(1) : failures
    for (const failure of mine) require(isKeptOff(failure, guard), say('who is kept from the place fails for that alone'))
  }
  if (killed) {
    require(first.failures[0]?.code === 'agent_crashed' && first.job.attempt > 1, say('the killed one is tried again'))
    return
  }
  require(first.job.status === 'succeeded' && first.job.attempt === 1, say('who has the place keeps it'))
  require(second.failures[0]?.code === (guard === 'agent' ? 'overlap' : 'conflict'), say('the second one is told of the first'))
  require(guard === 'server' || second.job.attempt === 1, say('who was told that two names lead to one place is not tried again'))
}

/** The place is another's, or the other has filled it. */
function isKeptOff({ code, message }: Failure, guard: TwoNames['guard']): boolean {
  if (guard === 'agent') return code === 'overlap'
  return code === 'conflict' || code === 'source_exists' || (code === 'preflight_failed' && message.includes('source_exists'))
}
