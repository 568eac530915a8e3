import { readSync, writeSync } from 'node:fs'
import { onOwnDisk } from '../own-disk.ts'

/**
 * Reads and writes of the agent's own files at a position, whole. One call may do a part and say so without an error: a disk that fills takes what still fits, a call that a signal
 * interrupts what it has done by then (write(2), read(2)). Who does not look would leave other bytes in a file than it counts.
 */

export function writeWhole(fd: number, bytes: Buffer, at: number): void {
  onOwnDisk(fd, () => {
    for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done, bytes.length - done, at + done)
  })
}

/** As many bytes as there are, at most all of `into`. */
export function readUpTo(fd: number, into: Buffer, at: number): number {
  let done = 0
  while (done < into.length) {
    const from = done
    const read = onOwnDisk(fd, () => readSync(fd, into, from, into.length - from, at + from))
    if (read === 0) break
    done += read
  }
  return done
}

/** Throws a RangeError where the file ends before: `what` names it. */
export function readWhole(fd: number, into: Buffer, at: number, what: string): void {
  if (readUpTo(fd, into, at) < into.length) throw new RangeError(`${what} has become shorter`)
}
