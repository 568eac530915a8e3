import { read } from 'node:fs'
import type { FileHandle } from 'node:fs/promises'
import { tooShort } from '../object-errors.ts'

/** One object whose file is open: what is read of it is of this object, whatever its name leads to meanwhile. */
export class OpenObject {
  readonly size: number
  readonly #key: string
  readonly #file: FileHandle

  constructor(key: string, file: FileHandle, size: number) {
    this.#key = key
    this.#file = file
    this.size = size
  }

  /** Fills the piece. Throws `object_damaged` where the file ends before. Not to be called again, nor `close`, before it has settled. */
  async fill(piece: Buffer, offset: number): Promise<void> {
    for (let done = 0; done < piece.length; ) {
      const bytesRead = await readAt(this.#file.fd, piece.subarray(done), offset + done)
      if (bytesRead === 0) throw tooShort(this.#key, null, { offset, length: piece.length })
      done += bytesRead
    }
  }

  close(): Promise<void> {
    return this.#file.close()
  }
}

/** By the callback: a file handle's own promise costs several times as much. */
function readAt(fd: number, into: Buffer, position: number): Promise<number> {
  return new Promise((resolve, reject) => {
    read(fd, into, 0, into.length, position, (error, bytesRead) => (error ? reject(error) : resolve(bytesRead)))
  })
}
