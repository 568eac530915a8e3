import { spawn } from 'node:child_process'
import { readdir, readFile, stat } from 'node:fs/promises'
import path from 'node:path'

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
/** Linux counts processor time in hundredths of a second wherever Node runs. */
const TICKS = 100

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
  const before = await lookAt(beside)
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
  const whole = { cpuSeconds: 0, peakBytes: 0 }
  const alone = { cpuSeconds: 0, peakBytes: 0 }
  let looking: Promise<void> = Promise.resolve()
  const timer = setInterval(() => {
    looking = looking.then(async () => {
      const [tree, server] = [await lookAt(child.pid), await lookAt(beside)]
      alone.peakBytes = Math.max(alone.peakBytes, tree.bytes)
      alone.cpuSeconds = Math.max(alone.cpuSeconds, tree.cpuSeconds)
      whole.peakBytes = Math.max(whole.peakBytes, tree.bytes + server.bytes)
    })
  }, EVERY_MS)
  const status = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', resolve)
  })
  const seconds = (performance.now() - begin) / 1000
  clearInterval(timer)
  await looking
  if (status !== 0) throw new Error(`${command} ended with ${status}\n${stderr}`)
  whole.cpuSeconds = alone.cpuSeconds + (await lookAt(beside)).cpuSeconds - before.cpuSeconds
  return { seconds, ...whole, alone, stdout }
}

/** A process with its descendants; what has ended by now counts in the time that its parent has waited for. */
async function lookAt(pid: number | undefined): Promise<{ bytes: number; cpuSeconds: number }> {
  if (pid === undefined) return { bytes: 0, cpuSeconds: 0 }
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '')
  if (text === '') return { bytes: 0, cpuSeconds: 0 }
  // fields 14 to 17 of proc(5), counted from behind the name, which may hold anything
  const fields = text
    .slice(text.lastIndexOf(')') + 2)
    .split(' ')
    .map(Number)
  const ticks = [11, 12, 13, 14].reduce((sum, field) => sum + (fields[field] ?? 0), 0)
  const total = { bytes: (await memoryOf(pid)).pss, cpuSeconds: ticks / TICKS }
  for (const thread of await readdir(`/proc/${pid}/task`).catch(() => [])) {
    const children = await readFile(`/proc/${pid}/task/${thread}/children`, 'utf8').catch(() => '')
    for (const child of children.split(' ').filter(Boolean)) {
      const below = await lookAt(Number(child))
      total.bytes += below.bytes
      total.cpuSeconds += below.cpuSeconds
    }
  }
  return total
}

/** What it has in memory, its share of that where others have the same pages, and what nobody else has (smaps_rollup in proc(5)). */
export async function memoryOf(pid: number): Promise<{ rss: number; pss: number; own: number }> {
  const text = await readFile(`/proc/${pid}/smaps_rollup`, 'utf8').catch(() => '')
  const bytes = (what: string) => Number(new RegExp(`^${what}:\\s+(\\d+) kB$`, 'm').exec(text)?.[1] ?? 0) * 1024
  return { rss: bytes('Rss'), pss: bytes('Pss'), own: bytes('Private_Clean') + bytes('Private_Dirty') }
}

/** Bytes of all files in a folder. */
export async function storedBytes(folder: string): Promise<number> {
  let sum = 0
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (entry.isFile()) sum += (await stat(path.join(entry.parentPath, entry.name))).size
  }
  return sum
}
