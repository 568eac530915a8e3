import type { OpenObject } from '../../shared/storage/local/open-object.ts'

/** Stays in a processor's cache between the disk, the cipher and the socket. */
const PIECE_BYTES = 64 * 1024

type Content = Pick<OpenObject, 'fill'>
interface Answer {
  write(piece: Buffer, sent: (error?: Error | null) => void): boolean
  end(): unknown
}

interface Turn {
  readonly memory: Buffer
  sent: Promise<void>
}

interface Range {
  readonly offset: number
  readonly length: number
}

/**
 * The body of an answer, and its end. Two pieces of memory in turn, whatever the length: one is read while the other is sent, and a reader that is slow holds
 * no more. A stream makes a new piece for each 64 KiB, and takes a third more processor time. Rejects with the signal's reason when the connection has gone.
 */
export async function sendRange(object: Content, range: Range, response: Answer, signal: AbortSignal): Promise<void> {
  const gone = goneOf(signal)
  const longest = Math.min(PIECE_BYTES, range.length)
  const turns = [0, 1].map(() => ({ memory: Buffer.allocUnsafeSlow(longest), sent: Promise.resolve() }))
  for (let done = 0; done < range.length; turns.reverse()) {
    const [next] = turns as [Turn]
    await Promise.race([gone, next.sent])
    const piece = next.memory.subarray(0, range.length - done)
    await object.fill(piece, range.offset + done)
    next.sent = write(response, piece)
    done += piece.length
  }
  await Promise.race([gone, Promise.all(turns.map(({ sent }) => sent))])
  response.end()
}

/** Resolves when nobody looks at the piece any more. */
function write(response: Answer, piece: Buffer): Promise<void> {
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
