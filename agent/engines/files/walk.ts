import { readdirSync, statfsSync } from 'node:fs'
import { type Beneath, joinName } from './beneath.ts'
import { hasCode } from './posix.ts'
import type { Report } from './report.ts'
import type { Selection } from './select.ts'
import { type Status, statusOf, typeOf } from './status.ts'

export interface Found {
  readonly path: Buffer
  readonly status: Status
}

export interface WalkOptions {
  readonly selection: Selection
  readonly oneFileSystem: boolean
  readonly report: Report
  readonly signal: AbortSignal
}

interface Level {
  /** In the order of their bytes, the next one last. One character for each byte, which costs less than a buffer for each name. */
  readonly names: string[]
  readonly folder: Found
  readonly taken: boolean
  /** A folder that is kept only if something in it is. */
  pending: boolean
}

/** Kernels make up what is in these: proc, sysfs, devpts, cgroup 1 and 2, debugfs, tracefs, securityfs, bpf, efivarfs. */
const PSEUDO_FILE_SYSTEMS = new Set([
  0x9fa0, 0x62656572, 0x1cd1, 0x27e0eb, 0x63677270, 0x64626720, 0x74726163, 0x73636673, 0xcafe4a11, 0xde5e81e4,
])
const ENTRIES_PER_TURN = 128

/** The calls block for microseconds each: whoever walks gives the rest of the process its turn then. */
export const PAUSE = Symbol('pause')

/** The tree's selected entries: a folder before what is in it, siblings in the order of their bytes. The root comes first. */
export function* walk(tree: Beneath, options: WalkOptions): Generator<Found | typeof PAUSE> {
  const walker = new Walker(tree, options)
  const levels = [walker.root()]
  for (let seen = 0; levels.length > 0; seen++) {
    options.signal.throwIfAborted()
    if (seen % ENTRIES_PER_TURN === 0) yield PAUSE
    const level = levels[levels.length - 1] as Level
    if (seen === 0) yield level.folder
    const name = level.names.pop()
    if (!name) {
      levels.pop()
      continue
    }
    const found = walker.look(joinName(level.folder.path, name))
    const verdict = found ? options.selection.judge(found.path, level.taken) : 'skip'
    if (!found || verdict === 'skip') continue
    if (verdict === 'take') {
      for (const above of levels) {
        if (!above.pending) continue
        above.pending = false
        yield above.folder
      }
      yield found
    }
    if (typeOf(found.status) === 'directory') levels.push(walker.open(found, verdict === 'take'))
  }
}

class Walker {
  readonly #tree: Beneath
  readonly #options: WalkOptions
  readonly #devices = new Map<bigint, boolean>()
  #rootDevice = 0n

  constructor(tree: Beneath, options: WalkOptions) {
    this.#tree = tree
    this.#options = options
  }

  root(): Level {
    const path = Buffer.alloc(0)
    const status = statusOf(this.#tree, path)
    this.#rootDevice = status.dev
    // a root that cannot be read is no backup at all: this throws
    const names = list(this.#tree.folder(path))
    return { names, folder: { path, status }, taken: false, pending: false }
  }

  look(path: Buffer): Found | null {
    try {
      return { path, status: statusOf(this.#tree, path) }
    } catch (error) {
      // the last three: a folder on the way was replaced by something else
      if (hasCode(error, 'ENOENT', 'ENOTDIR', 'ELOOP')) this.#options.report.say('file_vanished', path)
      else if (hasCode(error, 'EACCES', 'EPERM', 'EIO')) this.#options.report.say('file_unreadable', path, error)
      else throw error
      return null
    }
  }

  open(folder: Found, taken: boolean): Level {
    return { names: this.#list(folder), folder, taken, pending: !taken }
  }

  #list(folder: Found): string[] {
    try {
      const address = this.#tree.folder(folder.path)
      if (folder.status.dev !== this.#rootDevice && this.#leftOut(folder, address)) {
        this.#options.report.say('file_system_left_out', folder.path)
        return []
      }
      return list(address)
    } catch (error) {
      if (hasCode(error, 'ENOENT', 'ENOTDIR', 'ELOOP')) this.#options.report.say('file_vanished', folder.path)
      else if (hasCode(error, 'EACCES', 'EPERM', 'EIO')) this.#options.report.say('folder_unreadable', folder.path, error)
      else throw error
      return []
    }
  }

  #leftOut(folder: Found, address: Buffer): boolean {
    if (this.#options.oneFileSystem) return true
    const known = this.#devices.get(folder.status.dev)
    if (known !== undefined) return known
    const pseudo = process.platform === 'linux' && PSEUDO_FILE_SYSTEMS.has(Number(statfsSync(address).type) >>> 0)
    this.#devices.set(folder.status.dev, pseudo)
    return pseudo
  }
}

function list(address: Buffer): string[] {
  return readdirSync(address, { encoding: 'latin1' }).sort().reverse()
}
