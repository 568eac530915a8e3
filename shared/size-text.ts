const UNITS = ['B', 'kB', 'MB', 'GB', 'TB', 'PB']

/** Decimal units: 3.1 MB. */
export function sizeText(bytes: number | null | undefined): string {
  if (bytes === null || bytes === undefined) return '-'
  let value = bytes
  let unit = 0
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000
    unit++
  }
  const digits = unit === 0 || value >= 99.95 ? 0 : value >= 0.995 || value === 0 ? 1 : 2
  return `${value.toFixed(digits)} ${UNITS[unit]}`
}
