import { availableParallelism } from 'node:os'
import { Worker } from 'node:worker_threads'
import { HoldfastError } from '../errors.ts'
import { KIB } from './format.ts'
import {
  type Effort,
  type OpenedContent,
  openPacked,
  type PackedBlock,
  type PlainBlock,
  packChecked,
  type SealedContent,
} from './packing.mjs'
import type { Sum } from './sums.mjs'

/**
 * Packs blocks. `pack` takes the block's buffer over (its whole ArrayBuffer) until it settles; the answer is in the same memory. Any number at a
 * time, in any order. After `close` nothing settles any more but by an error.
 */
export interface BlockCodec {
  pack(block: PlainBlock): Promise<PackedBlock>
  close(): Promise<void>
}

/** Opens blocks, on the same terms: `packed` is taken over. Rejects with the reason, which does not know the block's name. */
export interface BlockDecoder {
  open(content: SealedContent): Promise<OpenedContent>
  close(): Promise<void>
}

/** What codec-thread.mjs is sent. */
type ToThread = { readonly id: number; readonly memory: ArrayBuffer } & (
  | { readonly length: number; readonly sum: Sum; readonly effort: Effort }
  | { readonly codec: SealedContent['codec']; readonly ends: Uint32Array }
)

/** And what it answers: a packed block in the same memory, an opened one in another, or why not. */
type FromThread =
  | (Omit<PackedBlock, 'buffer'> & { readonly id: number; readonly memory: ArrayBuffer })
  | { readonly id: number; readonly memory: ArrayBuffer; readonly length: number; readonly names: ArrayBuffer }
  | { readonly id: number; readonly error: unknown }
type Answer = Exclude<FromThread, { readonly error: unknown }>

interface Waiting {
  resolve(answer: Answer): void
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
export class CodecThreads implements BlockCodec, BlockDecoder {
  readonly #most: number
  readonly #program: URL
  readonly #threads: Thread[] = []
  #last = 0
  #failure: unknown

  constructor(most: number, program = PROGRAM) {
    this.#most = most
    this.#program = program
  }

  /** Starts all threads, for much that is about to come: while it is fetched they load their program. */
  prepare(): void {
    while (this.#threads.length < this.#most) this.#start().worker.unref()
  }

  async pack(block: PlainBlock): Promise<PackedBlock> {
    if (this.#failure) throw this.#failure
    if (block.length <= HERE) return packHere(block)
    const { buffer, ...rest } = block
    const answer = await this.#ask(buffer.buffer as ArrayBuffer, rest, notPacked)
    if (!('codec' in answer)) throw notPacked(new Error('the thread gave an answer to another question'))
    const { memory, codec, length, sum } = answer
    return { buffer: Buffer.from(memory), codec, length, sum }
  }

  async open(content: SealedContent): Promise<OpenedContent> {
    if (this.#failure) throw this.#failure
    const { packed, codec, ends } = content
    if ((ends.at(-1) ?? 0) <= HERE) return openPacked(content)
    const answer = await this.#ask(ownMemory(packed), { codec, ends }, (error) => error)
    if (!('names' in answer)) throw new Error('the thread gave an answer to another question')
    return { plain: Buffer.from(answer.memory, 0, answer.length), names: Buffer.from(answer.names) }
  }

  async close(): Promise<void> {
    this.#fail(new HoldfastError('job_cancelled', 'the backup was closed'))
    await Promise.all(this.#threads.map(({ worker }) => worker.terminate()))
  }

  /** `failed` makes the error of what the thread could not do. */
  async #ask(memory: ArrayBuffer, rest: object, failed: (error: unknown) => unknown): Promise<Answer> {
    const thread = this.#leastBusy()
    const id = ++this.#last
    return await new Promise((resolve, reject) => {
      thread.waiting.set(id, { resolve, reject: (error) => reject(error === this.#failure ? error : failed(error)) })
      // an idle thread keeps no process alive that has nothing else to do
      thread.worker.ref()
      thread.worker.postMessage({ id, memory, ...rest } as ToThread, [memory])
    })
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

function settle({ waiting, worker }: Thread, message: FromThread): void {
  const waits = waiting.get(message.id)
  if (!waits) return
  waiting.delete(message.id)
  if (waiting.size === 0) worker.unref()
  if ('error' in message) return waits.reject(message.error)
  waits.resolve(message)
}

/** What shares its memory with others cannot be given away. */
function ownMemory(bytes: Buffer): ArrayBuffer {
  const { buffer, byteOffset, length } = bytes
  if (buffer instanceof ArrayBuffer && byteOffset === 0 && length === buffer.byteLength) return buffer
  const copy = Buffer.allocUnsafeSlow(length)
  bytes.copy(copy)
  return copy.buffer as ArrayBuffer
}

function packHere(block: PlainBlock): PackedBlock {
  try {
    return packChecked(block)
  } catch (cause) {
    throw notPacked(cause)
  }
}

const notPacked = (cause: unknown) => spoiled('a block could not be packed', cause)

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
    hint: 'Look at the memory that is left on this host; the job is tried again.',
    retry: true,
    cause,
  })
