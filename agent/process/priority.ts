import os from 'node:os'
import koffi from 'koffi'
import { HoldfastError } from '../../shared/errors.ts'

/**
 * Priority of a whole process group: its processes, their threads, and what they start from then on. Node's own call reaches one thread alone. By the
 * C library, and loaded only where it is asked for: it is 8 MB in a job's process.
 */

const PROCESS_GROUP_NICE = 1
const PROCESS_GROUP_IO = 2
/** linux/ioprio.h: the class lies above bit 13. Best effort has levels 0 to 7, where 4 is what a process has that never said anything. */
const IO = { normal: (2 << 13) | 4, low: (2 << 13) | 7, idle: 3 << 13 } as const
/** The C library has no name for ioprio_set. */
const IOPRIO_SET: Readonly<Partial<Record<NodeJS.Architecture, number>>> = { x64: 251, arm64: 30 }

const NAMES = new Map(Object.entries(os.constants.errno).map(([name, number]) => [number, name]))

/** Of the caller's own group. Throws `not_supported` naming what the host refuses. */
export function setGroupNice(nice: number): void {
  const call = library().func('int setpriority(int which, uint32_t who, int priority)')
  if (call(PROCESS_GROUP_NICE, 0, nice) !== 0) throw refused(`processor priority (nice ${nice})`)
}

export function setGroupDisk(disk: keyof typeof IO): void {
  const number = process.platform === 'linux' ? IOPRIO_SET[process.arch] : undefined
  if (number === undefined) {
    throw new HoldfastError('not_supported', `disk priority cannot be set on ${process.platform} ${process.arch}`, {
      hint: 'The job runs with the disk priority of any program here. Leave limits.disk out of the policy for such hosts.',
    })
  }
  const call = library().func('long syscall(long number, int which, int who, int priority)')
  if (Number(call(number, PROCESS_GROUP_IO, 0, IO[disk])) !== 0) throw refused(`disk priority ${disk}`)
}

const library = () => koffi.load(process.platform === 'linux' ? null : '/usr/lib/libSystem.B.dylib')

function refused(what: string): HoldfastError {
  const code = NAMES.get(koffi.errno()) ?? `error ${koffi.errno()}`
  return new HoldfastError('not_supported', `this host does not let the job take ${what} (${code})`, {
    hint: 'The job runs on with the priority that it has; raising one again needs root, so it comes with the next job.',
  })
}
