import { getPriority, setPriority } from 'node:os'
import { parentPort } from 'node:worker_threads'
import { collectGarbage } from '../garbage.mjs'
import { FittingCompressor } from './fitting.mjs'
import { compress, decode, openPacked, packChecked } from './packing.mjs'

/** Niceness: who has five more gets a third of the other's time where both want all of it. */
const BELOW_MAIN = 5
const LOWEST = 19
const FORBIDDEN = new Set(['EPERM', 'EACCES', 'ENOSYS'])

const fitting = new FittingCompressor()
/** What is given its settings leaves no trace in what is remembered of other data. */
const zstd = { compress: (plain, settings) => (settings ? compress(plain, settings) : fitting.compress(plain)), decode }
/** Each leaves three kilobytes of what V8 finds only in a full collection, and lets pile up for longer each time; and that takes twenty milliseconds. */
const COLLECTED_EVERY = 256
let blocks = 0

standBack()
// The program of a thread: packs or opens the blocks that it is given, one after the other. Bytes change hands, they are never copied.
parentPort.on('message', (task) => {
  try {
    if ('ends' in task) opened(task)
    else packed(task)
  } catch (error) {
    parentPort.postMessage({ id: task.id, error })
  }
  if (++blocks % COLLECTED_EVERY !== 0) return
  collectGarbage()
  // the whole process may have been given another priority meanwhile
  standBack()
})

/** Each comes back in the memory that it came in. */
function packed({ id, memory, length, sum, effort }) {
  const block = packChecked({ buffer: Buffer.from(memory), length, sum, effort }, zstd)
  parentPort.postMessage({ id, memory, codec: block.codec, length: block.length, sum: block.sum }, [memory])
}

function opened({ id, memory, codec, ends }) {
  const { plain, names } = openPacked({ packed: Buffer.from(memory), codec, ends })
  // a short block may lie in memory that Node keeps for many
  const own = plain.byteOffset === 0 && plain.buffer.byteLength <= plain.length + 1 ? plain : copyOf(plain)
  const answer = { id, memory: own.buffer, length: own.length, names: names.buffer }
  parentPort.postMessage(answer, [own.buffer, names.buffer])
}

/**
 * Lets the process's main thread go first, which reads, names and sends: where all had one priority it waited behind the threads that it feeds, they soon had nothing to do, and a processor
 * was idle for a tenth of a backup. Linux alone has a priority for each thread (setpriority(2)); where the host forbids the call (seccomp(2)), all is done as it is.
 */
function standBack() {
  if (process.platform !== 'linux') return
  try {
    const wanted = Math.min(LOWEST, getPriority(process.pid) + BELOW_MAIN)
    if (wanted > getPriority()) setPriority(wanted)
  } catch (error) {
    if (!FORBIDDEN.has(error.info?.code)) throw error
  }
}

function copyOf(bytes) {
  const copy = Buffer.allocUnsafeSlow(bytes.length)
  bytes.copy(copy)
  return copy
}
