import { setFlagsFromString } from 'node:v8'

/**
 * Does `work` under a flag of V8, and sets the `usual` one again. V8 takes what was compiled before, as all of Node's own modules are, only under the same flags: a process that was started with one
 * (`--expose-gc`) compiles them all anew, which is a quarter of what a job's start takes.
 *
 * @template T
 * @param {{ flag: string, usual: string }} flags
 * @param {() => T} work
 */
export function underFlag({ flag, usual }, work) {
  setFlagsFromString(flag)
  try {
    return work()
  } finally {
    setFlagsFromString(usual)
  }
}
