import { closeSync, openSync, readlinkSync, readSync } from 'node:fs'
import koffi from 'koffi'
import type { Clock } from './clock.ts'
import { collectGarbage } from './garbage.mjs'

/**
 * Gives back what this process has in memory and does not use. Linux only; elsewhere nothing is done.
 *
 * Of Node's own program file a start touches 60 MB, most of them never again; the kernel takes them only when memory is short, and until then they count as ours. What is needed comes
 * back page by page, out of the disk cache. And what was given back to the C library lies there for the next who asks, as many megabytes as were in use at once; holes between what is in use
 * the library never gives back by itself (malloc_trim(3)).
 */
export function leaveSpareMemory(): void {
  if (process.platform !== 'linux') return
  library ??= loadLibrary()
  const { madvise, trim } = library
  const mappings = programMappings(readlinkSync('/proc/self/exe'))
  // refused where the host's administrator has locked programs in memory: then they stay
  for (const { from, to } of mappings) madvise(from, to - from, MADV_DONTNEED)
  trim(0)
}

/** What a job leaves in so much time is less than its buffers; to find what is garbage and give it back takes twenty milliseconds. */
const EVERY_MS = 2000

/** The same again and again, until the signal, and from the second time on what is garbage first, of which a job that has ended before then has little. Never throws. */
export async function keepLeavingSpareMemory(
  clock: Clock,
  signal: AbortSignal,
  { leave, collect } = { leave: leaveSpareMemory, collect: collectGarbage },
): Promise<void> {
  for (let times = 1; ; times++) {
    // ends early only with the signal
    await clock.sleep(EVERY_MS, signal).catch(() => undefined)
    if (signal.aborted) return
    if (times > 1) collect()
    leave()
  }
}

/** What passes a server between two times: a few packs. */
const PASSED = 64 * 1024 * 1024

/** For a server of objects, told of each with its length: after so many bytes, since what it leaves while it waits does not grow. */
export function leavingAsBytesPass(leave = leaveSpareMemory): (bytes: number) => void {
  let passed = 0
  return (bytes) => {
    passed += bytes
    if (passed < PASSED) return
    passed = 0
    leave()
  }
}

let library: ReturnType<typeof loadLibrary> | undefined

function loadLibrary() {
  const c = koffi.load(null)
  const madvise = c.func('int madvise(uint64_t address, size_t length, int advice)')
  try {
    return { madvise, trim: c.func('int malloc_trim(size_t pad)') }
  } catch (error) {
    // of glibc alone
    if (!/find function/i.test(String(error))) throw error
    return { madvise, trim: () => 0 }
  }
}

/** Where the program file lies unchanged in this process. */
function programMappings(file: string): Mapping[] {
  const piece = Buffer.allocUnsafe(4096)
  const smaps = openSync('/proc/self/smaps', 'r')
  try {
    return unchangedMappings(
      smapsOf(file, () => piece.toString('latin1', 0, readSync(smaps, piece))),
      file,
    )
  } finally {
    closeSync(smaps)
  }
}

const MADV_DONTNEED = 4
const HEADER = /^[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \d+ *(.*)\n/gm

/**
 * What /proc/PID/smaps says of `file`, whose mappings lie side by side. `read` gives the next piece of it, '' at its end. No more is read than that takes: the kernel looks at each page
 * of a mapping that it tells of, and the whole is hundreds of kilobytes of text.
 */
export function smapsOf(file: string, read: () => string): string {
  let text = ''
  for (let more = read(); more !== ''; more = read()) {
    text += more
    const headers = [...text.matchAll(HEADER)]
    const last = headers.at(-1)
    const found = headers.some(([, name]) => name === file)
    if (found && last?.[1] !== file) break
    if (!found && last) text = text.slice(last.index)
  }
  return text
}

const MAPPING = /^([0-9a-f]+)-([0-9a-f]+) r-[x-]p [0-9a-f]+ \S+ \d+ +(.*)\n((?:[A-Z].*\n)+)/gm

interface Mapping {
  readonly from: bigint
  readonly to: bigint
}

/**
 * Of `file`, in the text of /proc/PID/smaps: what is read only, and has no page of its own in memory or in swap. A page that was changed after it was read (by the loader, a debugger)
 * would come back as it is in the file, and the program would crash. Mappings of the program itself are made when it is started and stay; those of a library that another thread is
 * just loading look unchanged for a moment, and are none of ours.
 */
export function unchangedMappings(smaps: string, file: string): Mapping[] {
  const found: Mapping[] = []
  for (const [, from, to, name, fields = ''] of smaps.matchAll(MAPPING)) {
    const unchanged = /^Anonymous: +0 kB$/m.test(fields) && /^Swap: +0 kB$/m.test(fields)
    if (name === file && unchanged) found.push({ from: BigInt(`0x${from}`), to: BigInt(`0x${to}`) })
  }
  return found
}
