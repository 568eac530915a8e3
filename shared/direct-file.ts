import { constants } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'

/** Node's types leave its constructors out. */
declare const WebAssembly: { Memory: new (pages: { initial: number; maximum: number }) => { readonly buffer: ArrayBuffer } }

/** Bytes that are written at a time. */
export const PIECE_BYTES = 1024 * 1024
/** Below this a file more to open would cost more than it saves. */
const DIRECT_FROM = 256 * 1024
/** What offset, length and memory have to be multiples of: no disk that is in use has larger blocks. */
const BLOCK_BYTES = 4096
const WASM_PAGE_BYTES = 64 * 1024
/** Beyond so many at a time files are written by way of the page cache. */
const PIECES = 8

/**
 * Memory that begins at a page, as direct writes need it (open(2), O_DIRECT) and Node's own buffers do not. All in one WebAssembly memory, since each of them
 * takes gigabytes of address space; a page of it is memory only once it was used.
 */
class AlignedPieces {
  #free: Buffer[] | null = null

  /** For a file of `size` bytes: a piece, or as much as the file has where it is written in the usual way. */
  take(size: number): Buffer {
    if (size < DIRECT_FROM) return Buffer.allocUnsafe(Math.max(size, 1))
    this.#free ??= cut(new WebAssembly.Memory({ initial: pages(), maximum: pages() }).buffer)
    return this.#free.pop() ?? Buffer.allocUnsafeSlow(PIECE_BYTES)
  }

  give(piece: Buffer): void {
    // others go back to the collector
    if (piece.length === PIECE_BYTES && piece.buffer.byteLength === PIECES * PIECE_BYTES) this.#free?.push(piece)
  }
}

const pages = () => (PIECES * PIECE_BYTES) / WASM_PAGE_BYTES
const cut = (memory: ArrayBuffer): Buffer[] =>
  Array.from({ length: PIECES }, (_, n) => Buffer.from(memory, n * PIECE_BYTES, PIECE_BYTES))

export const alignedPieces = new AlignedPieces()

/**
 * Writes to a file past the page cache, where the file system lets it. What a backup stores is not read again soon: in the cache it would push out what the databases of
 * the host have there, and each page of it would have to be found, filled and written later. Written the usual way: what is no whole number of blocks, and everything where
 * a direct write is refused. (A restore's bytes lie anywhere in memory, and have another way out of the cache.)
 */
export class DirectFile {
  readonly #file: FileHandle
  #direct: FileHandle | null

  private constructor(file: FileHandle, direct: FileHandle | null) {
    this.#file = file
    this.#direct = direct
  }

  /** `file`, open for writing, stays the caller's to sync and to close. `size`: what will be written, as far as that is known. */
  static async over(file: FileHandle, size: number): Promise<DirectFile> {
    const wanted = size >= DIRECT_FROM && constants.O_DIRECT !== undefined
    // the very file that is open, whatever its name has become
    return new DirectFile(file, wanted ? await openDirect(`/proc/self/fd/${file.fd}`) : null)
  }

  /** Whether whole blocks go past the page cache. */
  get isDirect(): boolean {
    return this.#direct !== null
  }

  /** Several at a time, at different positions. The piece must not change until it has settled. */
  async write(piece: Buffer, position: number): Promise<void> {
    let done = await this.#writeBlocks(piece, position)
    // a write may take only a part of the bytes: a disk about to be full, a signal
    while (done < piece.length) {
      const { bytesWritten } = await this.#file.write(piece, done, piece.length - done, position + done)
      done += bytesWritten
    }
  }

  async close(): Promise<void> {
    await this.#direct?.close()
    this.#direct = null
  }

  async #writeBlocks(piece: Buffer, position: number): Promise<number> {
    const length = piece.length - (piece.length % BLOCK_BYTES)
    if (!this.#direct || length === 0 || position % BLOCK_BYTES !== 0) return 0
    try {
      return (await this.#direct.write(piece, 0, length, position)).bytesWritten
    } catch (error) {
      // memory that is not aligned, or blocks larger than any known
      if (!hasCode(error, ['EINVAL'])) throw error
      await this.close()
      return 0
    }
  }
}

async function openDirect(path: string): Promise<FileHandle | null> {
  try {
    return await open(path, constants.O_WRONLY | constants.O_DIRECT)
  } catch (error) {
    // a file system that knows no direct writes, or a host without /proc
    if (hasCode(error, ['EINVAL', 'ENOTSUP', 'EOPNOTSUPP', 'ENOENT', 'EACCES'])) return null
    throw error
  }
}

const hasCode = (error: unknown, codes: readonly string[]): boolean =>
  error instanceof Error && 'code' in error && codes.includes(String(error.code))
