import { writeSync } from 'node:fs'
import pino from 'pino'

/** The part of pino's logger that the product uses. Fields first, message second. */
export type Logger = pino.Logger
export type LogLevel = 'debug' | 'info' | 'warn' | 'error'

/** Names of fields that never carry a printable value, at any of the first three levels. */
const SECRET_FIELDS = ['password', 'token', 'secret', 'authorization', 'url', 'key', 'private_key', 'identity']
const redactPaths = SECRET_FIELDS.flatMap((name) => [name, `*.${name}`, `*.*.${name}`])

/** JSON lines on standard error, so that standard output stays the program's answer. Secrets print as `***`. */
export function createLogger(options: { level?: string; destination?: pino.DestinationStream } = {}): Logger {
  return pino(
    {
      level: options.level ?? 'info',
      base: undefined,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: { paths: redactPaths, censor: '***' },
    },
    options.destination ?? standardError(),
  )
}

const STANDARD_ERROR = 2
/** A reader that is only slow is waited for so often, so many milliseconds each. */
const TRIES = 20
const WAIT_MS = 100

/** What sonic-boom (4.2.1) has not begun to write. */
interface Unwritten {
  readonly _writing: boolean
  _writingBuf: string
  _bufs: string[]
}

/**
 * Lines are written in the background. What is left when the process ends sonic-boom tries to write again and again, whatever the error: with nobody who reads, or on a full disk, the
 * process would never end, and not even be killed by a timer of its own.
 */
function standardError(): pino.DestinationStream {
  const stream = pino.destination(STANDARD_ERROR)
  const unwritten = stream as unknown as Unwritten
  stream.flushSync = () => {
    const text = (unwritten._writing ? '' : unwritten._writingBuf) + unwritten._bufs.join('')
    if (!unwritten._writing) unwritten._writingBuf = ''
    unwritten._bufs = []
    writeAsFarAsPossible(Buffer.from(text))
  }
  return stream
}

function writeAsFarAsPossible(bytes: Buffer): void {
  for (let at = 0, tries = 0; at < bytes.length && tries < TRIES; ) {
    try {
      at += writeSync(STANDARD_ERROR, bytes, at)
    } catch (error) {
      // the log is where it would be told
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') return
      tries++
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, WAIT_MS)
    }
  }
}
