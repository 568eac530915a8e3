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
    options.destination ?? pino.destination(2),
  )
}
