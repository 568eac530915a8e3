import { HoldfastError } from '../../shared/errors.ts'
import { Secret } from '../../shared/secret.ts'
import { readTextFile } from './text-file.ts'

/** Options of several commands: settings as `key=value`, and connections, whose passwords come by file, standard input or environment. */

/** Where a connection with its password may stand, so that it is in no list of processes and in no history of a shell. */
export const URL_VARIABLE = 'HOLDFAST_SOURCE_URL'

export const collect = (value: string, all: string[]): string[] => [...all, value]

export function splitPair(option: string, pair: string): [string, string] {
  const at = pair.indexOf('=')
  if (at > 0) return [pair.slice(0, at), pair.slice(at + 1)]
  throw new HoldfastError('invalid_argument', `${option} ${JSON.stringify(pair)} is not of the form key=value`, {
    hint: `Write ${option} key=value.`,
  })
}

/** `--option key=value`, each; a value in JSON or plain text. */
export function settingsOf(pairs: readonly string[]): Record<string, unknown> {
  return Object.fromEntries(pairs.map((pair) => splitPair('--option', pair)).map(([key, value]) => [key, jsonOrText(value)]))
}

function jsonOrText(value: string): unknown {
  try {
    return JSON.parse(value)
  } catch (error) {
    if (error instanceof SyntaxError) return value
    throw error
  }
}

interface ConnectionOptions {
  readonly url?: string
  readonly urlFile?: string
}

/** `--url` as it is (an engine refuses a password in it), or a secret from a file, standard input (`-`) or the environment. */
export async function connectionOf(
  options: ConnectionOptions,
  deps: { readStdin(): Promise<string>; readonly environment: Readonly<Record<string, string | undefined>> },
): Promise<string | Secret | undefined> {
  if (options.url !== undefined && options.urlFile !== undefined) {
    throw new HoldfastError('invalid_argument', 'give either --url or --url-file', {
      hint: 'A connection with a password comes by --url-file, one without by --url.',
    })
  }
  if (options.url !== undefined) return options.url
  if (options.urlFile !== undefined) {
    return new Secret((options.urlFile === '-' ? await deps.readStdin() : await readTextFile(options.urlFile)).trim())
  }
  const fromEnvironment = deps.environment[URL_VARIABLE]
  return fromEnvironment === undefined ? undefined : new Secret(fromEnvironment.trim())
}
