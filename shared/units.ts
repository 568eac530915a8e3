import { HoldfastError } from './errors.ts'

const SECONDS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400, w: 604_800 }

/** `90s`, `10m`, `4h`, `30d`, `2w`, or several in a row as `1d12h`, in whole seconds. Throws `invalid_config`. */
export function parseDuration(text: string): number {
  const parts = [...text.matchAll(/(\d{1,9})([smhdw])/g)]
  if (parts.length === 0 || parts.map(([whole]) => whole).join('') !== text) {
    throw new HoldfastError('invalid_config', `duration ${JSON.stringify(text)} is not understood`, {
      hint: 'Write a number and a unit, s, m, h, d or w: 90s, 10m, 4h, 30d.',
    })
  }
  return parts.reduce((sum, [, number, unit]) => sum + Number(number) * (SECONDS[unit ?? ''] ?? 0), 0)
}
