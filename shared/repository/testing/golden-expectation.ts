import { hash } from 'node:crypto'
import type { BackupSource, Extent, TreeEntry, TreeInput } from '../../artifacts.ts'
import { collect } from './content.ts'
import type { GoldenContent } from './golden-content.ts'

/**
 * What a reader has to give back, made from what was handed to the writer and from nothing that was read. The rows of trees are those of
 * `describe` of test/independent-reader, which looks at a restored folder.
 */

export interface ExpectedBackup {
  readonly type: string
  readonly leans_on: number
  readonly attempts: readonly number[]
  readonly packs: number
  readonly deleted: boolean
  /** The identity files that open it and all that it leans on. */
  readonly opened_by: readonly string[]
  readonly artifacts: readonly ExpectedArtifact[]
}

export interface ExpectedArtifact {
  readonly kind: 'stream' | 'tree'
  readonly name: string
  readonly part?: string
  readonly facts: Readonly<Record<string, string>>
  readonly bytes: number
  /** Of a stream. */
  readonly sha256?: string
  /** Of a tree, sorted by the bytes of their paths. */
  readonly entries?: readonly ExpectedEntry[]
}

export type ExpectedEntry = Readonly<Record<string, unknown>> & { readonly path: string; readonly type: string }

/** Any bytes as ASCII: printable ones but % stand for themselves, others are %XX. What is long is its length and hash. */
export function escaped(bytes: Buffer): string {
  if (bytes.length > LONG) return `${bytes.length} bytes, ${hash('sha256', bytes)}`
  return bytes
    .toString('latin1')
    .replace(/[^ -$&-~]/g, (one) => `%${one.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`)
}
const LONG = 200

const factsOf = (facts: Readonly<Record<string, string>> = {}) =>
  Object.fromEntries(Object.entries(facts).map(([name, text]) => [name, escaped(Buffer.from(text))]))

/** Sorted by the UTF-8 bytes of their names. */
export async function expectedArtifacts({ streams, trees }: GoldenContent): Promise<ExpectedArtifact[]> {
  const all: ExpectedArtifact[] = streams.map(({ name, part, facts, bytes }) => ({
    ...{ kind: 'stream', name, ...(part && { part }), facts: factsOf(facts) },
    ...{ bytes: bytes.length, sha256: hash('sha256', bytes) },
  }))
  for (const { name, facts, entries } of trees) {
    const inputs = entries()
    const files = inputs.filter(({ type, hardLinkTo }) => type === 'file' && !hardLinkTo)
    const bytes = files.reduce((sum, entry) => sum + entry.size, 0)
    const rows = await expectedEntries(inputs, (entry) => (entry as TreeInput).content?.read() ?? nothing())
    all.push({ kind: 'tree', name, facts: factsOf(facts), bytes, entries: rows })
  }
  return all.sort((a, b) => Buffer.from(a.name).compare(Buffer.from(b.name)))
}

/** The same of what our own reader gives back. */
export async function restoredArtifacts(reader: BackupSource): Promise<ExpectedArtifact[]> {
  const all: ExpectedArtifact[] = []
  for await (const { kind, name, part, facts, bytes } of reader.artifacts()) {
    const head = { kind, name, ...(part !== undefined && { part }), facts: factsOf(facts), bytes }
    if (kind === 'stream') {
      all.push({ ...head, sha256: hash('sha256', await collect(reader.openStream(name))) })
      continue
    }
    const entries: Array<TreeEntry & { read?(): AsyncIterable<Extent> }> = []
    for await (const entry of reader.openTree(name)) entries.push(entry)
    all.push({
      ...head,
      entries: await expectedEntries(entries, (entry) => (entry as (typeof entries)[number]).read?.() ?? nothing()),
    })
  }
  return all
}

async function expectedEntries(
  entries: readonly TreeEntry[],
  read: (entry: TreeEntry) => AsyncIterable<Extent>,
): Promise<ExpectedEntry[]> {
  const sorted = [...entries].sort((a, b) => a.path.compare(b.path))
  const files = new Map<string, { sha256: string; sparse: boolean }>()
  for (const entry of sorted)
    if (entry.type === 'file' && !entry.hardLinkTo) files.set(key(entry.path), await contentOf(entry, read(entry)))
  /** The first in order of the names of a file that has several. */
  const first = new Map<string, string>()
  for (const entry of sorted) if (entry.hardLinkTo) first.set(key(entry.hardLinkTo), '')
  return sorted.map((entry) => {
    const { path, type, mode, uid, gid, mtimeNs, size, linkTarget, device, xattrs } = entry
    const row = { path: escaped(path), type, mode, uid, gid, mtime_ns: String(mtimeNs) }
    const named = Object.fromEntries((xattrs ?? []).map(({ name, value }) => [escaped(name), escaped(value)]))
    const common = { ...row, xattrs: named }
    if (linkTarget) return { ...common, link_target: escaped(linkTarget) }
    if (device) return { ...common, device: [device.major, device.minor] }
    if (type !== 'file') return common
    const original = key(entry.hardLinkTo ?? path)
    const content = files.get(original)
    if (!content) throw new Error(`${escaped(path)} is another name of nothing`)
    const shared = first.get(original)
    if (shared === '') first.set(original, escaped(path))
    const same = shared === undefined ? (content.sparse ? { sparse: true } : {}) : { same_as: first.get(original) }
    return { ...common, size, sha256: content.sha256, ...same }
  })
}

const key = (path: Buffer): string => path.toString('latin1')

async function contentOf(entry: TreeEntry, extents: AsyncIterable<Extent>): Promise<{ sha256: string; sparse: boolean }> {
  const whole = Buffer.alloc(entry.size)
  let data = 0
  for await (const { offset, bytes } of extents) data += bytes.copy(whole, offset)
  return { sha256: hash('sha256', whole), sparse: data < entry.size / 2 }
}

async function* nothing(): AsyncGenerator<Extent> {
  yield* []
}
