import picomatch from 'picomatch'
import { HoldfastError } from '../../../shared/errors.ts'
import { isWithin } from './beneath.ts'
import type { FilesConfig } from './config.ts'

/** Which entries of a tree are meant. Paths that are not UTF-8 are matched with U+FFFD for what is not. */
export class Selection {
  readonly #include: ((path: string) => boolean) | null
  readonly #exclude: ((path: string) => boolean) | null
  readonly #parts: Parts

  constructor(config: FilesConfig, parts: Parts) {
    this.#include = config.include.length > 0 ? matcher(config.include) : null
    this.#exclude = config.exclude.length > 0 ? matcher(config.exclude) : null
    this.#parts = parts
  }

  /**
   * `take`: it is meant, and with it all in it that is not excluded. `enter`: a folder that is not meant itself, but in
   * which something may be; it is kept only if something is. `insideTaken`: its folder was taken.
   */
  judge(path: Buffer, insideTaken: boolean): 'take' | 'enter' | 'skip' {
    if (this.#exclude?.(path.toString('utf8'))) return 'skip'
    const part = this.#parts.judge(path)
    if (part !== 'take') return part
    return !this.#include || insideTaken || this.#include(path.toString('utf8')) ? 'take' : 'enter'
  }
}

function matcher(patterns: readonly string[]): (path: string) => boolean {
  const [names, paths] = [patterns.filter((one) => !one.includes('/')), patterns.filter((one) => one.includes('/'))]
  const byName = picomatch(names, { dot: true, basename: true })
  const byPath = picomatch(
    paths.map((one) => one.replace(/^\/+|\/+$/g, '')),
    { dot: true },
  )
  return (path) => (names.length > 0 && byName(path)) || (paths.length > 0 && byPath(path))
}

/** Paths chosen by the user: each with all that is in it. Empty: everything. */
export class Parts {
  readonly #parts: Array<{ path: Buffer; text: string; met: boolean }>

  constructor(parts: readonly string[]) {
    this.#parts = parts.map((text) => ({ path: Buffer.from(checkPart(text)), text, met: false }))
  }

  get all(): boolean {
    return this.#parts.length === 0
  }

  /** `enter`: a folder on the way to one. */
  judge(path: Buffer): 'take' | 'enter' | 'skip' {
    if (this.all) return 'take'
    let verdict: 'enter' | 'skip' = 'skip'
    for (const part of this.#parts) {
      if (isWithin(path, part.path)) {
        part.met = true
        return 'take'
      }
      if (isWithin(part.path, path)) verdict = 'enter'
    }
    return verdict
  }

  /** Throws `not_found` when a part was not met. */
  requireAll(where: string): void {
    const absent = this.#parts.find((part) => !part.met)
    if (!absent) return
    throw new HoldfastError('not_found', `path ${JSON.stringify(absent.text.slice(0, 200))} is not in ${where}`, {
      hint: 'Give paths relative to the folder of the source, as `show` prints them.',
    })
  }
}

function checkPart(part: string): string {
  const text = part.endsWith('/') ? part.slice(0, -1) : part
  const segments = text.split('/')
  if (part.length <= 4096 && !text.includes('\0') && segments.every((one) => one !== '' && one !== '.' && one !== '..'))
    return text
  throw new HoldfastError('invalid_argument', `path ${JSON.stringify(part.slice(0, 200))} is not allowed as a part`, {
    hint: 'Give a path relative to the folder of the source, without "." and ".." in it.',
  })
}
