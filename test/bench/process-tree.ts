import { readdirSync, readFileSync } from 'node:fs'

// What Linux tells of processes (proc(5)). Read without waiting: what a look costs is taken from the processor that is measured.

/** Linux counts processor time in hundredths of a second wherever Node runs. */
const TICKS = 100
/** Linux on x64, and on most others. */
const PAGE = 4096

/** Its ids: the process and its descendants. */
export function treeOf(pid: number): number[] {
  const found = [pid]
  for (const parent of found) {
    for (const thread of entriesOf(`/proc/${parent}/task`)) {
      for (const child of textOf(`/proc/${parent}/task/${thread}/children`).split(' '))
        if (child !== '') found.push(Number(child))
    }
  }
  return found
}

/** User and system time. What has ended counts in the time of the parent that has waited for it. */
export function cpuSecondsOf(pids: readonly number[]): number {
  let ticks = 0
  for (const pid of pids) {
    const text = textOf(`/proc/${pid}/stat`)
    // fields 14 to 17, counted from behind the name, which may hold anything
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
    for (const field of [11, 12, 13, 14]) ticks += Number(fields[field] ?? 0)
  }
  return ticks / TICKS
}

/** Resident bytes; a page counts in each process that has it. */
export function residentBytesOf(pids: readonly number[]): number {
  return pids.reduce((sum, pid) => sum + Number(textOf(`/proc/${pid}/statm`).split(' ')[1] ?? 0) * PAGE, 0)
}

/**
 * What it has in memory, its share of that where others have the same pages, and what nobody else has. The kernel looks at every page for it: milliseconds for
 * each process.
 */
export function memoryOf(pid: number): { rss: number; pss: number; own: number } {
  const text = textOf(`/proc/${pid}/smaps_rollup`)
  const bytes = (what: string) => Number(new RegExp(`^${what}:\\s+(\\d+) kB$`, 'm').exec(text)?.[1] ?? 0) * 1024
  return { rss: bytes('Rss'), pss: bytes('Pss'), own: bytes('Private_Clean') + bytes('Private_Dirty') }
}

/** Empty once the process has ended. */
function textOf(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return ''
  }
}

function entriesOf(folder: string): string[] {
  try {
    return readdirSync(folder)
  } catch {
    return []
  }
}
