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

const BYTES: Readonly<Record<string, number>> = {
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
}

/** `100MB/s`, `1.5GB/s`, `512KiB/s`, in whole bytes a second. Throws `invalid_config`; bits are refused, since `Mb` is as often a slip for `MB`. */
export function parseRate(text: string): number {
  const [, number, unit = ''] = /^(\d{1,9}(?:\.\d{1,3})?)(KB|MB|GB|KiB|MiB|GiB)\/s$/.exec(text) ?? []
  const rate = Math.round(Number(number) * (BYTES[unit] ?? 0))
  if (Number.isSafeInteger(rate)) return rate
  throw new HoldfastError('invalid_config', `rate ${JSON.stringify(text)} is not understood`, {
    hint: 'Write a number and bytes a second, KB/s, MB/s, GB/s, KiB/s, MiB/s or GiB/s: 100MB/s, 512KiB/s.',
  })
}
