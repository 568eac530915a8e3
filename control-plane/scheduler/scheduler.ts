import { schedule } from 'node-cron'
import { asHoldfastError } from '../../shared/errors.ts'
import type { Logger } from '../../shared/log.ts'

/** Work that is done again and again while the control plane runs. It may be done by several control planes at once. */
export interface PeriodicTask {
  readonly name: string
  /** A cron expression with seconds, in UTC. When policies are due is not decided here but by domain/schedule.ts. */
  readonly when: string
  run(): Promise<unknown>
}

export interface Scheduler {
  /** No run begins after this; resolves when those under way have ended. */
  stop(): Promise<void>
}

/** A run that takes longer than its interval is not overtaken by the next; one that fails is logged and tried again at its time. */
export function startScheduler(tasks: readonly PeriodicTask[], log: Logger): Scheduler {
  const underWay = new Set<Promise<void>>()
  const quiet = {
    info: () => undefined,
    warn: () => undefined,
    error: (text: unknown) => log.error({ text: String(text) }, 'the ticker failed'),
    debug: () => undefined,
  }
  const scheduled = tasks.map((task) =>
    schedule(
      task.when,
      async () => {
        const run = task
          .run()
          .then(() => undefined)
          .catch((error: unknown) => log.error({ err: asHoldfastError(error), task: task.name }, 'a periodic task failed'))
          .finally(() => underWay.delete(run))
        underWay.add(run)
        await run
      },
      { name: task.name, timezone: 'UTC', noOverlap: true, suppressMissedWarning: true, logger: quiet },
    ),
  )
  return {
    stop: async () => {
      for (const task of scheduled) await task.destroy()
      await Promise.all(underWay)
    },
  }
}
