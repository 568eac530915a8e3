/** Selectors of sources: `host/name`, in which `*` stands for any run of characters but "/". */

/** True when one of the patterns matches, or there is none. */
export function selects(patterns: readonly string[], source: string): boolean {
  return patterns.length === 0 || patterns.some((pattern) => matches(pattern, source))
}

/** Greedy with one step back: linear in both lengths for a single star, never exponential (no RegExp from input). */
function matches(pattern: string, source: string): boolean {
  let p = 0
  let s = 0
  let star = -1
  let resume = 0
  while (s < source.length) {
    if (pattern[p] === '*') {
      star = p++
      resume = s
    } else if (pattern[p] === source[s]) {
      p++
      s++
    } else if (star >= 0 && source[resume] !== '/') {
      p = star + 1
      s = ++resume
    } else {
      return false
    }
  }
  while (pattern[p] === '*') p++
  return p === pattern.length
}
