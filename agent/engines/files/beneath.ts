import { closeSync, constants, existsSync, lstatSync, openSync } from 'node:fs'

const SLASH = 0x2f
/** Linux: a handle to walk by, which needs no right to read the folder. */
const O_PATH = process.platform === 'linux' ? 0o10000000 : 0
/** AT_FDCWD */
const NO_FOLDER = process.platform === 'linux' ? -100 : -2
const NUL = Buffer.alloc(1)
const OPEN_FOLDER = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW | O_PATH

/** With it, a path can begin at an open folder: what openat(2) does, for every call of Node's fs. */
const handles = process.platform === 'linux' && existsSync('/proc/self/fd')

/** What openat(2) and its kin take. Without handles the folder is where the process is, which the name, a whole path, does not begin at. */
interface Place {
  readonly folder: number
  /** Ends with a NUL; what comes after it is of no meaning. */
  readonly name: Buffer
}

interface Step {
  readonly path: Buffer
  /** -1 where there are no handles. */
  readonly fd: number
  readonly address: Buffer
}

/**
 * Addresses of things beneath a folder. Every folder on the way is opened by its own name without following links, so
 * that neither a hostile backup nor a user who swaps a folder for a link leads a process of root out of the tree.
 *
 * An address is good until the next call: use it at once, before any await. Where the platform has no handles (macOS),
 * every folder on the way is checked to be none but a folder, which leaves a race.
 */
export class Beneath {
  /** The root first, then the folders on the way to where the last address was. */
  readonly #steps: Step[]
  /** What was asked for last, while the folder that it is in is open: each entry is looked at, described and opened. */
  #last: { readonly path: Buffer; readonly address: Buffer } | null = null
  /** The same of `place`, in one buffer for all. */
  #placed: Buffer | null = null
  readonly #place = { folder: -1, name: Buffer.alloc(4096) }

  constructor(root: Buffer) {
    this.#steps = [openStep(root, Buffer.alloc(0))]
  }

  /** Address of the entry with this path ("" is the root), which itself may be anything, or absent. */
  entry(path: Buffer): Buffer {
    if (this.#last?.path === path) return this.#last.address
    if (path.length === 0) return Buffer.concat([this.#root().address, Buffer.from('/.')])
    const cut = path.lastIndexOf(SLASH)
    const address = join(this.#enter(path.subarray(0, Math.max(cut, 0))).address, path.subarray(cut + 1))
    this.#last = { path, address }
    return address
  }

  /** The same as an open folder and a name in it, for calls that take one: no way through /proc, which costs more than what is asked. */
  place(path: Buffer): Place {
    if (this.#placed === path) return this.#place
    const cut = path.lastIndexOf(SLASH)
    const step = this.#enterAt(path, Math.max(cut, 0))
    if (step.fd < 0) return { folder: NO_FOLDER, name: Buffer.concat([this.entry(path), NUL]) }
    const { name } = this.#place
    if (path.length - cut > name.length) return { folder: step.fd, name: Buffer.concat([path.subarray(cut + 1), NUL]) }
    // only the root has no name
    const end = path.length === 0 ? name.write('.') : path.copy(name, 0, cut + 1)
    name[end] = 0
    this.#place.folder = step.fd
    this.#placed = path
    return this.#place
  }

  /** Address of a folder opened without following a link. Throws ENOTDIR or ELOOP when it is something else. */
  folder(path: Buffer): Buffer {
    return this.#enter(path).address
  }

  close(): void {
    this.#last = null
    this.#placed = null
    for (const step of this.#steps.splice(0)) closeStep(step)
  }

  #root(): Step {
    const root = this.#steps[0]
    if (!root) throw new Error('the folder has been closed')
    return root
  }

  /** The folder with the first so many bytes of that path. */
  #enterAt(path: Buffer, length: number): Step {
    const last = this.#steps[this.#steps.length - 1]
    // mostly it is where the last one was
    if (last?.path.length === length && last.path.compare(path, 0, length) === 0) return last
    return this.#enter(path.subarray(0, length))
  }

  #enter(folder: Buffer): Step {
    let step = this.#root()
    while (this.#steps.length > 1) {
      const last = this.#steps[this.#steps.length - 1] ?? step
      if (isWithin(folder, last.path)) {
        step = last
        break
      }
      this.#steps.pop()
      this.#last = null
      this.#placed = null
      closeStep(last)
    }
    while (step.path.length < folder.length) {
      const start = step.path.length === 0 ? 0 : step.path.length + 1
      const end = folder.indexOf(SLASH, start)
      const path = folder.subarray(0, end < 0 ? folder.length : end)
      step = openStep(join(step.address, path.subarray(start)), Buffer.from(path))
      this.#steps.push(step)
    }
    return step
  }
}

/** True when `path` is the folder itself or lies in it. */
export function isWithin(path: Buffer, folder: Buffer): boolean {
  if (folder.length === 0) return true
  if (path.length < folder.length || path.compare(folder, 0, folder.length, 0, folder.length) !== 0) return false
  return path.length === folder.length || path[folder.length] === SLASH
}

export function join(folder: Buffer, name: Buffer): Buffer {
  if (folder.length === 0) return name
  const path = Buffer.allocUnsafe(folder.length + 1 + name.length)
  folder.copy(path)
  path[folder.length] = SLASH
  name.copy(path, folder.length + 1)
  return path
}

/** With a name of one character for each byte. */
export function joinName(folder: Buffer, name: string): Buffer {
  const at = folder.length === 0 ? 0 : folder.length + 1
  const path = Buffer.allocUnsafe(at + name.length)
  if (at > 0) {
    folder.copy(path)
    path[at - 1] = SLASH
  }
  path.write(name, at, 'latin1')
  return path
}

function openStep(address: Buffer, path: Buffer): Step {
  if (!handles) {
    if (!lstatSync(address).isDirectory()) throw Object.assign(new Error('ENOTDIR: not a folder'), { code: 'ENOTDIR' })
    return { path, fd: -1, address }
  }
  const fd = openSync(address, OPEN_FOLDER)
  return { path, fd, address: Buffer.from(`/proc/self/fd/${fd}`) }
}

function closeStep(step: Step): void {
  if (step.fd >= 0) closeSync(step.fd)
}
