import { constants, openSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { Socket } from 'node:net'
import type { StreamBytes } from '../artifacts.ts'
import { HoldfastError } from '../errors.ts'
import { MIB } from './format.ts'

/** The bytes of a stream, in pieces of at most 1 MiB. A piece is valid until the next is asked for. */
export async function* readBytes(source: StreamBytes, signal: AbortSignal): AsyncGenerator<Buffer> {
  if ('fifo' in source) yield* readFifo(source.fifo, signal)
  else if ('file' in source) yield* readFile(source.file, source.offset ?? 0, source.length ?? Number.POSITIVE_INFINITY, signal)
  else {
    for await (const bytes of source) {
      for (let at = 0; at < bytes.length; at += MIB) {
        signal.throwIfAborted()
        yield bytes.subarray(at, at + MIB)
      }
    }
  }
}

async function* readFile(file: string, offset: number, length: number, signal: AbortSignal): AsyncGenerator<Buffer> {
  const handle = await open(file, constants.O_RDONLY).catch((cause: unknown) => {
    throw new HoldfastError('source_missing', `${JSON.stringify(file)} cannot be opened`, {
      hint: 'Check that the file is there and that the agent may read it.',
      cause,
    })
  })
  try {
    const buffer = Buffer.allocUnsafeSlow(MIB)
    let at = offset
    const end = offset + length
    while (at < end) {
      signal.throwIfAborted()
      const { bytesRead } = await handle.read(buffer, 0, Math.min(MIB, end - at), at)
      if (bytesRead === 0) break
      at += bytesRead
      yield buffer.subarray(0, bytesRead)
    }
    if (at < end && Number.isFinite(end)) {
      throw new HoldfastError('source_changed', `${JSON.stringify(file)} ended at ${at} bytes, before ${end}`, {
        hint: 'The file was shortened while it was read; the backup is tried again.',
      })
    }
  } finally {
    await handle.close()
  }
}

/** What a pipe holds by itself (pipe(7)). */
const PIPE_BYTES = 64 * 1024

/**
 * A named pipe, opened without waiting for its writer: a waiting open would hold a thread of the pool and could not be
 * ended. The kernel reports the end only after a writer has come and gone, so an early reader does not see one (fifo(7), poll(2)).
 * All is read into one buffer: fresh ones cost three times as much as the reading. Nothing is read while a piece is in use.
 */
async function* readFifo(file: string, signal: AbortSignal): AsyncGenerator<Buffer> {
  const buffer = Buffer.allocUnsafeSlow(PIPE_BYTES)
  // a plain descriptor: a FileHandle would close it a second time, when it may be another file's
  const fd = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK)
  const state: { length: number; ended: boolean; failure?: Error; wake(): void } = {
    length: 0,
    ended: false,
    wake: () => undefined,
  }
  const callback = (length: number) => {
    state.length = length
    state.wake()
    return false
  }
  const socket = new Socket({ fd, readable: true, writable: false, signal, onread: { buffer, callback } })
  const end = () => {
    state.ended = true
    state.wake()
  }
  socket.on('end', end).on('close', end)
  socket.on('error', (error) => {
    state.failure = error
  })
  try {
    while (!state.ended) {
      const arrived = new Promise<void>((resolve) => {
        state.wake = resolve
      })
      state.length = 0
      socket.resume()
      await arrived
      if (state.length > 0) yield buffer.subarray(0, state.length)
    }
    signal.throwIfAborted()
    if (state.failure) throw state.failure
  } finally {
    socket.destroy()
  }
}
