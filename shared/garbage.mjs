import { runInNewContext } from 'node:vm'
import { underFlag } from './v8-flags.mjs'

/** @type {((options: object) => void) | undefined} */
let collect

/** As V8 does when memory is about to run out: again while that finds more, and what is left is moved together, so that its pages are given back. */
const ALL = { type: 'major', execution: 'sync', flavor: 'last-resort' }

/**
 * A full collection of this thread's garbage, by V8's own `gc`. Some outlives the collections of young objects, and V8 makes full ones ever more rarely: after ten
 * gigabytes of a stream a job held 20 MB more of it, in buffers outside of the heap too, than after one.
 */
export function collectGarbage() {
  // where another thread has just set the flags back there is none: it is asked for the next time
  collect ??= underFlag({ flag: '--expose-gc', usual: '--no-expose-gc' }, () => runInNewContext('globalThis.gc'))
  collect?.(ALL)
}
