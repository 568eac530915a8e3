/** How values look to a person. */

export { sizeText } from '../../shared/size-text.ts'

/**
 * Text that came from a server, and to it from databases and hosts, made harmless for a terminal: control characters (C0, C1,
 * DEL), which could move the cursor or retype commands, and characters that turn the direction of writing, show as escapes.
 */
export function safe(text: string): string {
  return text.replace(
    /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}

/** The two largest units: 3 d 4 h, 12 min 5 s. */
export function durationText(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined) return '-'
  const whole = Math.round(seconds)
  const parts: [number, string][] = [
    [Math.floor(whole / 86_400), 'd'],
    [Math.floor(whole / 3600) % 24, 'h'],
    [Math.floor(whole / 60) % 60, 'min'],
    [whole % 60, 's'],
  ]
  const first = parts.findIndex(([count]) => count > 0)
  if (first < 0) return '0 s'
  return parts
    .slice(first, first + 2)
    .filter(([count]) => count > 0)
    .map(([count, unit]) => `${count} ${unit}`)
    .join(' ')
}

/** RFC 3339 without fractions, a space for the T: 2026-11-21 02:00:00Z. */
export function timeText(time: string | null | undefined): string {
  return time ? safe(time.replace('T', ' ').replace(/\.\d+/, '')) : '-'
}

/** 12 480 */
export function countText(count: number | null | undefined): string {
  return count === null || count === undefined ? '-' : String(count).replace(/\B(?=(\d{3})+$)/g, ' ')
}
