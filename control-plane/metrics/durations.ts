import type { Histogram, MetricObjectWithValues, MetricValueWithName, Registry } from 'prom-client'
import type { Durations } from '../catalog/metrics-figures.ts'

/** Bounds in seconds: from a small file to the longest backup. */
export const DURATION_BOUNDS = [1, 5, 15, 30, 60, 300, 900, 1800, 3600, 7200, 14_400, 28_800, 86_400] as const

export interface DurationMetric {
  set(rows: readonly { labels: Record<string, string>; durations: Durations }[]): void
}

/**
 * A histogram whose counts are given whole. prom-client's own can only observe one value after the other, which for counts
 * that come out of the catalog would mean to replay every job at each scrape.
 */
export function durationMetric(registry: Registry, name: string, help: string): DurationMetric {
  let values: MetricValueWithName<string>[] = []
  const metric = {
    name,
    get: async (): Promise<Omit<MetricObjectWithValues<MetricValueWithName<string>>, 'collect'>> => ({
      name,
      help,
      type: 'histogram' as never,
      aggregator: 'first',
      values,
    }),
  }
  // a registry asks of a metric its name and what `get` resolves to (prom-client 15, lib/registry.js)
  registry.registerMetric(metric as unknown as Histogram)
  return {
    set(rows) {
      values = rows.flatMap(({ labels, durations }) => [
        ...DURATION_BOUNDS.map((bound, i) => ({
          metricName: `${name}_bucket`,
          labels: { ...labels, le: String(bound) },
          value: durations.buckets[i] ?? 0,
        })),
        { metricName: `${name}_bucket`, labels: { ...labels, le: '+Inf' }, value: durations.count },
        { metricName: `${name}_sum`, labels, value: durations.sumSeconds },
        { metricName: `${name}_count`, labels, value: durations.count },
      ])
    },
  }
}
