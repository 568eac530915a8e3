import { readdir, readFile } from 'node:fs/promises'
import { systemClock } from '../../shared/clock.ts'

const POLL_MS = 10
const WAIT_MS = 2000

/** Process groups of ours that live. A program that exits in the middle takes them along. */
const living = new Set<number>()
process.on('exit', () => {
  for (const group of living) signalGroup(group, 'SIGKILL')
})

export const rememberGroup = (group: number): unknown => living.add(group)
export const forgetGroup = (group: number): unknown => living.delete(group)

/** Sends a signal to every process of the group; false when none is left. */
function signalGroup(group: number, signal: NodeJS.Signals): boolean {
  try {
    process.kill(-group, signal)
    return true
  } catch (error) {
    // EPERM: a member that changed its user; it cannot be signalled, but it is there
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

/** SIGTERM, after a grace SIGKILL, until the group's leader has been waited for and no member runs. */
export async function endGroup(group: number, leaderGone: Promise<unknown>, graceMs: number): Promise<void> {
  signalGroup(group, 'SIGTERM')
  const waiting = new AbortController()
  const grace = systemClock.sleep(graceMs, waiting.signal).then(
    () => signalGroup(group, 'SIGKILL'),
    () => false,
  )
  await leaderGone.catch(() => undefined)
  waiting.abort()
  await grace
  await killRest(group)
}

/** Ends what is left of a group whose leader has gone. Bounded: a process stuck in the kernel cannot be ended by anyone. */
export async function killRest(group: number): Promise<void> {
  const deadline = systemClock.monotonicMs() + WAIT_MS
  while (signalGroup(group, 'SIGKILL') && systemClock.monotonicMs() < deadline) {
    await systemClock.sleep(POLL_MS)
    if (await allDead(group)) return
  }
}

/** A first process that is slow to reap (or never does, in a container) leaves dead members visible; they hold nothing. */
async function allDead(group: number): Promise<boolean> {
  if (process.platform !== 'linux') return false
  for (const pid of await readdir('/proc')) {
    if (!/^\d+$/.test(pid)) continue
    // gone between listing and reading: dead
    const stat = await readFile(`/proc/${pid}/stat`, 'latin1').catch(() => '')
    // the command's name may hold blanks and parentheses: fields count from the last ")"
    const [state, , pgrp] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    if (Number(pgrp) === group && state !== 'Z' && state !== 'X') return false
  }
  return true
}
