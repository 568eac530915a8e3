import type { Fault } from './schedule.ts'
import type { Outcome, SeedResult } from './seed-run.ts'

/** What came of faults, by kind. */
export class Tallied {
  seeds = 0
  readonly #begin = performance.now()
  readonly #outcomes: Outcome[] = []
  readonly #beyond: number[] = []

  add({ outcomes, beyondBytes }: SeedResult): void {
    this.seeds += 1
    this.#outcomes.push(...outcomes)
    this.#beyond.push(...beyondBytes)
  }

  /** What struck at least once: a fault that is drawn and never strikes proves nothing. */
  get struck(): ReadonlySet<string> {
    const met = this.#outcomes.flatMap((one) => (one.fault && one.met ? [one.fault] : []))
    return new Set(met.map((fault) => (fault.kind === 'disk' ? fault.where : fault.kind === 'line' ? fault.what : fault.who)))
  }

  table(range: string, asked: number): string {
    const rows = new Map<string, Outcome[]>()
    for (const outcome of this.#outcomes) {
      const name = outcome.fault ? rowOf(outcome.fault) : 'none'
      rows.set(name, [...(rows.get(name) ?? []), outcome])
    }
    const lines = [...rows].sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, of]) => line(name, of))
    const seconds = Math.round((performance.now() - this.#begin) / 1000)
    const most = (Math.max(0, ...this.#beyond) / 2 ** 20).toFixed(1)
    return [
      `data path: ${this.seeds} of ${asked} seeds (${range}) kept every rule, in ${seconds} s; ${this.#outcomes.length} attempts`,
      ...lines,
      `  ${this.#beyond.length} backups took several attempts; beyond what their manifests name they sent ${most} MiB of packs at most`,
    ].join('\n')
  }
}

function rowOf(fault: Fault): string {
  if (fault.kind === 'kill') return `kill of the ${fault.who}`
  if (fault.kind === 'line') return `line: ${fault.what}`
  const fatal = fault.how.includes('kill')
  return `disk of the ${fault.where}: ${fatal ? 'kill' : fault.how}`
}

function line(name: string, of: readonly Outcome[]): string {
  const count = (fits: (one: Outcome) => boolean) => of.filter(fits).length
  const codes = new Map<string, number>()
  for (const { code, good } of of) if (code !== null && !good) codes.set(code, (codes.get(code) ?? 0) + 1)
  const why = [...codes].map(([code, times]) => `${code} ${times}`).join(', ')
  const met = name === 'none' ? '' : `, ${count((one) => one.met)} met`
  return `  ${name}: ${of.length} attempts${met}, ${count((one) => one.good)} good, ${count((one) => !one.good)} failed${why && ` (${why})`}`
}
