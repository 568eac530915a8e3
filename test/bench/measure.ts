import { spawn } from 'node:child_process'
import { readdir, stat } from 'node:fs/promises'
import path from 'node:path'
import { cpuSecondsOf, memoryOf, residentBytesOf, treeOf } from './process-tree.ts'

export interface Usage {
  /** User and system time of all processes. */
  readonly cpuSeconds: number
  /** The largest sum of their memory at one moment. A page that several processes share (PSS) counts once. */
  readonly peakBytes: number
}

/** Of the command's process tree and of the server beside it. */
export interface Measured extends Usage {
  readonly seconds: number
  /** The process tree without the server; the same where there is none. */
  readonly alone: Usage
  readonly stdout: string
}

const EVERY_MS = 40
/** A process that begins and ends in between counts in its parent's time. */
const NEW_PROCESSES_EVERY = 5
/** What processes share does not change much in a second. */
const EXACTLY_EVERY = 25
const AT_MOST_EVERY = 4

/**
 * Runs a command and looks at its process tree every 40 ms. `beside`: a server that runs already; what it does meanwhile counts, what it did before does
 * not. Linux only. Throws unless the command exits 0.
 */
export async function measure(
  command: string,
  args: readonly string[],
  env: Readonly<Record<string, string>>,
  beside?: number,
): Promise<Measured> {
  const besides = () => (beside === undefined ? [] : treeOf(beside))
  const before = cpuSecondsOf(besides())
  const begin = performance.now()
  const child = spawn(command, args, { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] })
  let stdout = ''
  let stderr = ''
  child.stdout.on('data', (piece: Buffer) => {
    stdout += piece
  })
  child.stderr.on('data', (piece: Buffer) => {
    stderr = (stderr + piece).slice(-4096)
  })
  let tree: number[] = []
  let server: number[] = []
  let cpuSeconds = 0
  const alone = new PeakMemory()
  const whole = new PeakMemory()
  let looks = 0
  const timer = setInterval(() => {
    if (looks % NEW_PROCESSES_EVERY === 0) {
      tree = child.pid === undefined ? [] : treeOf(child.pid)
      server = besides()
    }
    cpuSeconds = Math.max(cpuSeconds, cpuSecondsOf(tree))
    const exactly = looks % EXACTLY_EVERY === 0
    const exact = countedOnce()
    alone.look(tree, exactly, exact)
    whole.look([...tree, ...server], exactly, exact)
    looks++
  }, EVERY_MS)
  const status = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', resolve)
  })
  const seconds = (performance.now() - begin) / 1000
  clearInterval(timer)
  if (status !== 0) throw new Error(`${command} ended with ${status}\n${stderr}`)
  return {
    seconds,
    cpuSeconds: cpuSeconds + cpuSecondsOf(besides()) - before,
    peakBytes: whole.bytes,
    alone: { cpuSeconds, peakBytes: alone.bytes },
    stdout,
  }
}

/**
 * The largest sum of what processes have in memory, each page counted once. To count so takes milliseconds from the processors that are measured, a twentieth of them when it was done
 * with every new high: it is done once a second, and at most six times where more is resident than at the largest sum so far with as much shared as at the last exact look.
 */
class PeakMemory {
  bytes = 0
  #shared = 0
  /** How many looks ago the last exact one was. */
  #looks = AT_MOST_EVERY

  /** `exact`: what each of them has, as it is at this moment. */
  look(pids: readonly number[], exactly: boolean, exact: (pid: number) => number): void {
    this.#looks++
    const resident = residentBytesOf(pids)
    if (!exactly && (this.#looks < AT_MOST_EVERY || resident - this.#shared <= this.bytes)) return
    const bytes = pids.reduce((sum, pid) => sum + exact(pid), 0)
    this.#looks = 0
    this.#shared = resident - bytes
    this.bytes = Math.max(this.bytes, bytes)
  }
}

/** Each process is counted once at one moment, in whatever sums it is. */
function countedOnce(): (pid: number) => number {
  const counted = new Map<number, number>()
  return (pid) => {
    const bytes = counted.get(pid) ?? memoryOf(pid).pss
    counted.set(pid, bytes)
    return bytes
  }
}

/** Bytes of all files in a folder. */
export async function storedBytes(folder: string): Promise<number> {
  let sum = 0
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (entry.isFile()) sum += (await stat(path.join(entry.parentPath, entry.name))).size
  }
  return sum
}
