import type { ServerResponse } from 'node:http'
import type { OpenObject } from '../../shared/storage/local/open-object.ts'

/** Stays in a processor's cache between the disk, the cipher and the socket. */
const PIECE_BYTES = 64 * 1024

interface Range {
  readonly offset: number
  readonly length: number
}

/**
 * The body of an answer, and its end. Two pieces of memory in turn, whatever the length: one is read while the other is sent, and a reader that is slow holds
 * no more. Streams would make a new piece for each 64 KiB, and cost twice the processor time. Rejects with the signal's reason when the connection has gone.
 */
export async function sendRange(object: OpenObject, range: Range, response: ServerResponse, signal: AbortSignal): Promise<void> {
  const gone = goneOf(signal)
  const pieces = [
    Buffer.allocUnsafeSlow(Math.min(PIECE_BYTES, range.length)),
    Buffer.allocUnsafeSlow(Math.min(PIECE_BYTES, range.length)),
  ]
  const sent: Promise<void>[] = []
  for (let done = 0, turn = 0; done < range.length; turn = 1 - turn) {
    const piece = (pieces[turn] as Buffer).subarray(0, Math.min(PIECE_BYTES, range.length - done))
    await Promise.race([sent[turn], gone])
    await object.fill(piece, range.offset + done)
    sent[turn] = write(response, piece)
    done += piece.length
  }
  await Promise.race([Promise.all(sent), gone])
  response.end()
}

/** Resolves when nobody looks at the piece any more. */
function write(response: ServerResponse, piece: Buffer): Promise<void> {
  const written = new Promise<void>((resolve, reject) => {
    response.write(piece, (error) => (error ? reject(error) : resolve()))
  })
  // whoever waits for it is told
  written.catch(() => undefined)
  return written
}

function goneOf(signal: AbortSignal): Promise<never> {
  const gone = new Promise<never>((_, reject) => {
    if (signal.aborted) reject(signal.reason)
    else signal.addEventListener('abort', () => reject(signal.reason), { once: true })
  })
  gone.catch(() => undefined)
  return gone
}
