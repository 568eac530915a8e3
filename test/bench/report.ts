import type { Measured, Usage } from './measure.ts'

export interface Result extends Measured {
  /** Bytes that the repository has more than before. */
  readonly stored: number
}

export interface Table {
  readonly title: string
  /** Bytes that were backed up or restored. */
  readonly size: number
  /** What `stored` is called. */
  readonly stored?: 'stored MB' | 'new MiB'
}

/** A line for each contestant; `own`: that of this project, a second line of which has the job without the server. */
export function print(
  { title, size, stored = 'stored MB' }: Table,
  results: ReadonlyMap<string, readonly Result[]>,
  own: string,
): void {
  console.log(`\n${title}`)
  console.log(row('', ['MB/s', `${own} is`, 'CPU s/GB', 'peak MB', stored, 'ratio']))
  const ours = results.get(own) ?? []
  for (const [name, all] of results) {
    const kept = medianOf(
      all.map((result) => result.stored / (stored === 'new MiB' ? 1024 * 1024 : 1e6)),
      stored === 'new MiB' ? 1 : 0,
    )
    const ratio = `${(size / (all[0]?.stored ?? 0)).toFixed(2)}x`
    console.log(row(name, [...speed(all, ours, size), ...usage(all, size), kept, ratio]))
    const beside = all.some(({ alone, peakBytes }) => alone.peakBytes < peakBytes)
    if (beside)
      console.log(
        row('  without the server', [
          '',
          '',
          ...usage(
            all.map(({ alone }) => alone),
            size,
          ),
        ]),
      )
  }
}

function speed(all: readonly Result[], ours: readonly Result[], size: number): string[] {
  const speeds = all.map(({ seconds }) => size / 1e6 / seconds)
  // of the same round: what slows the machine down then slows both
  const ratios = all.map(({ seconds }, round) => seconds / (ours[round]?.seconds ?? Number.NaN))
  return [medianOf(speeds, 0), `${medianOf(ratios, 2)}x`]
}

function usage(all: readonly Usage[], size: number): string[] {
  const times = all.map(({ cpuSeconds }) => cpuSeconds / (size / 1e9))
  const peaks = all.map(({ peakBytes }) => peakBytes / 1e6)
  return [medianOf(times, 1), medianOf(peaks, 0)]
}

/** With the least and the most, where they differ. */
export function medianOf(figures: readonly number[], digits: number): string {
  const sorted = figures.toSorted((a, b) => a - b).map((figure) => figure.toFixed(digits))
  const [least, middle, most] = [sorted[0], sorted[Math.floor(sorted.length / 2)] ?? '', sorted.at(-1)]
  return least === most ? middle : `${middle} (${least}-${most})`
}

export function row(name: string, cells: readonly string[]): string {
  return `  ${name.padEnd(21)}${cells.map((cell) => cell.padStart(20)).join('')}`
}

export const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(0)
