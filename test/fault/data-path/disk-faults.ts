import { createHash } from 'node:crypto'
import { closeSync, openSync, readFileSync, readSync, writeSync } from 'node:fs'
import { copyFile } from 'node:fs/promises'
import path from 'node:path'
import { available, cached, isCached } from '../../harness/cache.ts'
import { runCommand } from '../../harness/commands.ts'
import { apt, onPath } from '../../harness/debian.ts'

/** What the calls of programs on files meet: disk-faults.c does it, in every program that was started with `env`. */

/** In the order of their bits. */
export const CALLS = ['open', 'read', 'write', 'sync', 'rename'] as const
export type Call = (typeof CALLS)[number]

/** Beside errors of the system: see disk-faults.c. */
const HOW = {
  EIO: 5,
  ENOSPC: 28,
  kill: 1000,
  'kill after': 1001,
  short: 1002,
  'torn kill': 1003,
  fills: 1004,
} as const
export type How = keyof typeof HOW

export interface DiskRule {
  readonly calls: readonly Call[]
  readonly how: How
  /** The first that is struck, from 1, and how many from there. */
  readonly at: number
  readonly times: number
  /** Files below this folder; with `holds` only those whose path has that in it. */
  readonly below: string
  readonly holds?: string
}

const RULE_BYTES = 512
const RULES = 2

export class DiskFaults {
  readonly env: Readonly<Record<string, string>>
  readonly #fd: number

  private constructor(library: string, file: string) {
    this.#fd = openSync(file, 'w+', 0o600)
    writeSync(this.#fd, Buffer.alloc(RULE_BYTES * RULES))
    this.env = { LD_PRELOAD: library, HOLDFAST_DISK_FAULTS: file }
  }

  /** Null where it cannot be compiled, or the C library is another one. */
  static async open(folder: string): Promise<DiskFaults | null> {
    if (process.platform !== 'linux') return null
    const library = await compiledLibrary()
    return library === null ? null : new DiskFaults(library, path.join(folder, 'disk-faults'))
  }

  set(rule: DiskRule): void {
    const bytes = Buffer.alloc(RULE_BYTES)
    const calls = rule.calls.reduce((bits, call) => bits | (1 << CALLS.indexOf(call)), 0)
    for (const [n, value] of [1, calls, HOW[rule.how], rule.at, rule.times].entries()) bytes.writeUInt32LE(value, n * 4)
    bytes.write(`${rule.below}/`, 32, 383)
    bytes.write(rule.holds ?? '', 416, 95)
    // armed last: programs look while it is written
    writeSync(this.#fd, bytes, 4, RULE_BYTES - 4, 4)
    writeSync(this.#fd, bytes, 0, 4, 0)
  }

  /** Nothing fails from here on. How often calls were struck since `set`. */
  clear(): number {
    writeSync(this.#fd, Buffer.alloc(4), 0, 4, 0)
    const counts = Buffer.alloc(4)
    readSync(this.#fd, counts, 0, 4, 24)
    return counts.readUInt32LE()
  }

  close(): void {
    closeSync(this.#fd)
  }
}

function compiledLibrary(): Promise<string | null> {
  const source = path.join(import.meta.dirname, 'disk-faults.c')
  const version = createHash('sha256').update(readFileSync(source)).digest('hex').slice(0, 16)
  const name = 'disk-faults'
  const present = () => isCached(name, version) || onPath('gcc') !== null
  return available('gcc', 'build', present, async () => {
    const folder = await cached(name, version, async (draft) => {
      await apt(onPath('gcc') ? [] : ['gcc', 'libc6-dev'])
      await copyFile(source, path.join(draft, 'disk-faults.c'))
      await runCommand('gcc', ['-shared', '-fPIC', '-O2', '-o', path.join(draft, 'disk-faults.so'), source, '-ldl'])
    })
    return path.join(folder, 'disk-faults.so')
  })
}
