import { readFileSync, readlinkSync } from 'node:fs'
import koffi from 'koffi'

/**
 * Gives back what is in memory of Node's own program file. A start touches 60 MB of it, most of them never again; the kernel takes them only when memory is short, and until then they
 * count as ours. What is needed comes back page by page, out of the disk cache. Linux only; elsewhere nothing is done, nor where the host's administrator has locked programs in memory.
 */
export function leaveProgramPages(): void {
  if (process.platform !== 'linux') return
  const madvise = koffi.load(null).func('int madvise(uint64_t address, size_t length, int advice)')
  const mappings = unchangedMappings(readFileSync('/proc/self/smaps', 'latin1'), readlinkSync('/proc/self/exe'))
  for (const { from, to } of mappings) madvise(from, to - from, MADV_DONTNEED)
}

const MADV_DONTNEED = 4
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
