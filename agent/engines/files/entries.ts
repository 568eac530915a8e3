import type { TreeEntry, TreeInput } from '../../../shared/artifacts.ts'
import type { Run } from '../engine.ts'
import type { Beneath } from './beneath.ts'
import type { FilesConfig } from './config.ts'
import { type ContentOptions, ListedFile } from './content.ts'
import { describeEntry } from './entry.ts'
import { hasCode } from './posix.ts'
import type { Report } from './report.ts'
import { type Parts, Selection } from './select.ts'
import { inodeOf, type Status } from './status.ts'
import type { Tally } from './tally.ts'
import { PAUSE, walk } from './walk.ts'

export interface Scan {
  readonly tree: Beneath
  readonly config: FilesConfig
  readonly parts: Parts
  readonly report: Report
  readonly tally: Tally
  readonly run: Run
}

/** First name of a file. `entry.size` is what it was announced with, `size` what was read of it. */
interface FirstName {
  readonly entry: TreeEntry
  /** "" where it has no other name. */
  readonly inode: string
  size: number
}

/** What entries of one walk share. */
interface Seen {
  readonly links: Map<string, FirstName>
  readonly options: ContentOptions<FirstName>
}

const PROGRESS_EVERY = 500

/** The tree as a backup takes it. `scan.tally` is right once the last entry has been dealt with. */
export async function* treeEntries(scan: Scan): AsyncGenerator<TreeInput> {
  const seen = newlySeen(scan)
  let unreported = 0
  const { config, parts, report, run } = scan
  const selection = new Selection(config, parts)
  const options = { selection, oneFileSystem: config.one_file_system, report, signal: run.signal }
  for (const found of walk(scan.tree, options)) {
    if (found === PAUSE) {
      // without it, nothing else of the process would have a turn while entries are passed over
      await new Promise((resolve) => setImmediate(resolve))
      continue
    }
    const entry = describeOrSkip(scan, found.path, found.status)
    if (!entry) continue
    yield named(scan, entry, found.status, seen)
    if (++unreported === PROGRESS_EVERY) {
      run.progress({ objectsDone: unreported })
      unreported = 0
    }
  }
  if (unreported > 0) run.progress({ objectsDone: unreported })
}

function describeOrSkip(scan: Scan, path: Buffer, status: Status): TreeEntry | null {
  try {
    return describeEntry(scan.tree, path, status, scan.report)
  } catch (error) {
    if (!hasCode(error, 'ENOENT', 'ENOTDIR', 'ELOOP', 'EINVAL')) throw error
    // a link that is none any more answers EINVAL
    scan.report.say('file_vanished', path)
    return null
  }
}

/** The entry as another name of an earlier one, or with its own content. */
function named(scan: Scan, entry: TreeEntry, status: Status, { links, options }: Seen): TreeInput {
  const shared = status.links > 1 && entry.type !== 'directory'
  const inode = shared ? inodeOf(status) : ''
  const first = shared ? links.get(inode) : undefined
  if (first) {
    const link = { ...entry, size: first.size, hardLinkTo: first.entry.path }
    scan.tally.add(link)
    return link
  }
  const record: FirstName = { entry, inode, size: entry.size }
  if (shared) links.set(inode, record)
  scan.tally.add(entry)
  if (entry.type !== 'file') return entry
  return { ...entry, content: new ListedFile(entry.path, status, record, options) }
}

function newlySeen({ tree, report, tally, run }: Scan): Seen {
  const links = new Map<string, FirstName>()
  const sized = ({ entry, size }: FirstName) => ({ ...entry, size })
  const options: ContentOptions<FirstName> = {
    ...{ tree, report, clock: run.clock, signal: run.signal, spare: [] },
    dropped: (first) => {
      tally.remove(sized(first))
      // the next name becomes the first
      links.delete(first.inode)
    },
    resized: (first, size) => {
      tally.remove(sized(first))
      first.size = size
      tally.add(sized(first))
    },
  }
  return { links, options }
}
