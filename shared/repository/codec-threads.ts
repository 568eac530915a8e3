import { availableParallelism } from 'node:os'
import { Worker } from 'node:worker_threads'
import { HoldfastError } from '../errors.ts'
import { KIB } from './format.ts'
import { type PackedBlock, type PlainBlock, packChecked } from './packing.mjs'

/**
 * Packs blocks. `pack` takes the block's buffer over (its whole ArrayBuffer) until it settles; the answer is in the same memory. Any number at a
 * time, in any order. After `close` nothing settles any more but by an error.
 */
export interface BlockCodec {
  pack(block: PlainBlock): Promise<PackedBlock>
  close(): Promise<void>
}

/** What codec-thread.mjs is sent. */
interface ToThread {
  readonly id: number
  readonly memory: ArrayBuffer
  readonly length: number
  readonly crc: number
  readonly compressible: boolean
}

/** And what it answers: the same memory, or why not. */
type FromThread =
  | (Omit<PackedBlock, 'buffer'> & { readonly id: number; readonly memory: ArrayBuffer })
  | { readonly id: number; readonly error: unknown }

interface Waiting {
  resolve(block: PackedBlock): void
  reject(error: unknown): void
}

interface Thread {
  readonly worker: Worker
  readonly waiting: Map<number, Waiting>
}

/** Below this the way to a thread and back costs more than the work: a small backup starts no thread at all. */
const HERE = 128 * KIB
/** The data path needs little of V8's memory; blocks are outside of it. */
const HEAP = { maxOldGenerationSizeMb: 64, maxYoungGenerationSizeMb: 4, stackSizeMb: 2 } as const
const PROGRAM = new URL('./codec-thread.mjs', import.meta.url)

/** One for each processor: compressing is most of a backup's work, and reading, naming and sealing leave time between. */
export const codecThreads = (): number => Math.min(availableParallelism(), 4)

/** Worker threads, each started when there is work and all others are busy. Blocks are transferred to them, never copied. */
export class CodecThreads implements BlockCodec {
  readonly #most: number
  readonly #program: URL
  readonly #threads: Thread[] = []
  #last = 0
  #failure: unknown

  constructor(most: number, program = PROGRAM) {
    this.#most = most
    this.#program = program
  }

  async pack(block: PlainBlock): Promise<PackedBlock> {
    if (this.#failure) throw this.#failure
    if (block.length <= HERE) return packHere(block)
    const { waiting, worker } = this.#leastBusy()
    const id = ++this.#last
    const { buffer, length, crc, compressible } = block
    return await new Promise((resolve, reject) => {
      waiting.set(id, { resolve, reject })
      const memory = buffer.buffer as ArrayBuffer
      worker.postMessage({ id, memory, length, crc, compressible } satisfies ToThread, [memory])
    })
  }

  async close(): Promise<void> {
    this.#fail(new HoldfastError('job_cancelled', 'the writer was closed'))
    await Promise.all(this.#threads.map(({ worker }) => worker.terminate()))
  }

  #leastBusy(): Thread {
    const [least] = [...this.#threads].sort((a, b) => a.waiting.size - b.waiting.size)
    return least && (least.waiting.size === 0 || this.#threads.length >= this.#most) ? least : this.#start()
  }

  #start(): Thread {
    const worker = new Worker(this.#program, {
      resourceLimits: HEAP,
      env: {},
    })
    const thread: Thread = { worker, waiting: new Map() }
    worker.on('message', (message: FromThread) => settle(thread, message))
    worker.on('error', (cause) => this.#fail(threadDied(cause)))
    worker.on('exit', () => this.#fail(threadDied()))
    this.#threads.push(thread)
    return thread
  }

  /** Of a thread that has died nothing comes any more: everyone who waits is told, and everyone who comes. */
  #fail(error: unknown): void {
    this.#failure ??= error
    for (const { waiting } of this.#threads) {
      for (const { reject } of waiting.values()) reject(this.#failure)
      waiting.clear()
    }
  }
}

function settle({ waiting }: Thread, message: FromThread): void {
  const waits = waiting.get(message.id)
  if (!waits) return
  waiting.delete(message.id)
  if ('error' in message) return waits.reject(spoiled('a block could not be packed', message.error))
  const { memory, codec, length, crc } = message
  waits.resolve({ buffer: Buffer.from(memory), codec, length, crc })
}

function packHere(block: PlainBlock): PackedBlock {
  try {
    return packChecked(block)
  } catch (cause) {
    throw spoiled('a block could not be packed', cause)
  }
}

/** Something that was made here is not what it ought to be, and was not sent. */
export function spoiled(what: string, cause?: unknown): HoldfastError {
  return new HoldfastError('internal', `${what}: found before it was sent`, {
    hint: 'Nothing wrong was stored. Check the memory of this host, and report it.',
    retry: true,
    cause,
  })
}

const threadDied = (cause?: unknown) =>
  new HoldfastError('internal', 'a thread that compresses has ended', {
    hint: 'Look at the memory that is left on this host; the backup is tried again.',
    retry: true,
    cause,
  })
