import { HoldfastError } from '../../shared/errors.ts'
import type { Arg } from './tools.ts'

/** The argument list as the child gets it. Throws `invalid_name` for a foreign value that a tool could read as an option. */
export function argumentList(args: readonly Arg[]): string[] {
  return args.map((arg) => {
    const text = typeof arg === 'string' ? arg : arg.value
    if (text.includes('\0')) {
      throw new HoldfastError('invalid_name', `argument ${JSON.stringify(text.slice(0, 200))} holds a NUL`, {
        hint: 'Rename the thing: a name with a NUL byte cannot be given to a tool.',
      })
    }
    if (typeof arg !== 'string' && text.startsWith('-')) {
      throw new HoldfastError('invalid_name', `name ${JSON.stringify(text.slice(0, 200))} begins with a hyphen`, {
        hint: 'Such a name would be read as an option; give it by environment or option file instead.',
      })
    }
    return text
  })
}

/** The whole environment of a child: nothing of the agent's own reaches it. Values are never part of an error. */
export function environment(path: string, given: Readonly<Record<string, string>> = {}): Record<string, string> {
  for (const [name, value] of Object.entries(given)) {
    if (name === '' || /[=\0]/.test(name) || value.includes('\0')) {
      throw new HoldfastError('invalid_argument', `environment variable ${JSON.stringify(name)} cannot be passed on`, {
        hint: 'Neither its name nor its value may hold a NUL, and its name no equals sign.',
      })
    }
  }
  return { PATH: path, LANG: 'C.UTF-8', TZ: 'UTC', ...given }
}

const SECRET_NAME = /PASS|PWD|SECRET|TOKEN|KEY|CREDENTIAL|AUTH/i

/** A text of a tool without the secrets that it was given: some print their connection string when they fail. */
export function withoutSecrets(text: string, env: Readonly<Record<string, string>> = {}): string {
  let clean = text
  for (const [name, value] of Object.entries(env)) {
    if (value.length >= 3 && SECRET_NAME.test(name)) clean = clean.replaceAll(value, '***')
  }
  return clean
}
