/**
 * Text of agents, tools and databases on its way into SQL: PostgreSQL refuses NUL and lone surrogates in text and jsonb, and
 * one hostile log line must not be able to fail a job.
 */
export function storable(text: string, maxLength = 8000): string {
  const clean = text.replaceAll('\0', '\uFFFD').toWellFormed()
  return clean.length <= maxLength ? clean : `${clean.slice(0, maxLength - 1).toWellFormed()}…`
}

/** The same for every string of a JSON value, keys included. */
export function storableJson<T>(value: T, maxLength = 8000): T {
  if (typeof value === 'string') return storable(value, maxLength) as T
  if (Array.isArray(value)) return value.map((item) => storableJson(item, maxLength)) as T
  if (typeof value === 'bigint') return Number(value) as T
  if (value === null || typeof value !== 'object' || value instanceof Date) return value
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => [storable(key, maxLength), storableJson(item, maxLength)]),
  ) as T
}
