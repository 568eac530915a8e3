import { createReadStream } from 'node:fs'
import type {
  ArtifactDigest,
  ArtifactInfo,
  ArtifactMeta,
  BackupSink,
  BackupSource,
  Extent,
  StreamBytes,
  TreeDigest,
  TreeEntry,
  TreeInput,
  TreeMeta,
  TreeOutput,
} from '../../../shared/artifacts.ts'
import { HoldfastError, isHoldfastError } from '../../../shared/errors.ts'
import type { Fingerprint } from '../../../shared/results.ts'

interface StoredStream {
  readonly meta: ArtifactMeta
  readonly bytes: Buffer
}

interface StoredEntry {
  readonly entry: TreeEntry
  readonly identity: string | null
  readonly extents: readonly Extent[]
}

interface StoredTree {
  readonly meta: TreeMeta
  readonly entries: readonly StoredEntry[]
}

/** A backup in memory. */
export interface MemoryBackup {
  readonly streams: Map<string, StoredStream>
  readonly trees: Map<string, StoredTree>
}

export interface MemoryOptions {
  /** Files whose identity is that of the base are not read. */
  readonly base?: MemoryBackup
  /** Called after each piece with the bytes so far: to abort, or to throw as a target that fails. */
  readonly onBytes?: (total: number) => void
}

const nextTurn = () => new Promise<void>((resolve) => setImmediate(resolve))

/** A sink as strict as the repository's: one piece at a time, a turn of the loop between, buffers kept by reference for a while. */
export function memorySink(options: MemoryOptions = {}): { sink: BackupSink; backup: MemoryBackup } {
  const backup: MemoryBackup = { streams: new Map(), trees: new Map() }
  const names = new Set<string>()
  let total = 0
  const accept = async (bytes: Buffer): Promise<Buffer> => {
    const copy = Buffer.from(bytes)
    await nextTurn()
    // an engine that fills one buffer again and again would corrupt a repository that has not stored it yet
    if (!copy.equals(bytes)) throw new Error('the engine changed a buffer that it had given away')
    total += bytes.length
    options.onBytes?.(total)
    return copy
  }
  const claim = (name: string) => {
    if (names.has(name)) throw new HoldfastError('already_exists', `artifact ${JSON.stringify(name)} is there already`)
    names.add(name)
  }
  const sink: BackupSink = {
    async stream(meta: ArtifactMeta, bytes: StreamBytes): Promise<ArtifactDigest> {
      claim(meta.name)
      const pieces: Buffer[] = []
      for await (const piece of open(bytes)) pieces.push(await accept(piece))
      const whole = Buffer.concat(pieces)
      backup.streams.set(meta.name, { meta, bytes: whole })
      return { bytes: whole.length }
    },
    async tree(meta: TreeMeta, entries: AsyncIterable<TreeInput>): Promise<TreeDigest> {
      claim(meta.name)
      const writer = new TreeWriter(options.base?.trees.get(meta.name), accept)
      for await (const entry of entries) await writer.add(entry)
      backup.trees.set(meta.name, { meta, entries: writer.entries })
      return { entries: writer.entries.length, bytes: writer.bytes, unchanged: writer.unchanged }
    },
  }
  return { sink, backup }
}

function open(bytes: StreamBytes): AsyncIterable<Buffer> {
  if ('fifo' in bytes) return createReadStream(bytes.fifo)
  if ('file' in bytes) {
    const start = bytes.offset ?? 0
    return createReadStream(bytes.file, { start, ...(bytes.length === undefined ? {} : { end: start + bytes.length - 1 }) })
  }
  return bytes
}

class TreeWriter {
  readonly entries: StoredEntry[] = []
  bytes = 0
  unchanged = 0
  readonly #paths = new Set<string>()
  readonly #known = new Map<string, StoredEntry>()
  readonly #accept: (bytes: Buffer) => Promise<Buffer>

  constructor(base: StoredTree | undefined, accept: (bytes: Buffer) => Promise<Buffer>) {
    this.#accept = accept
    for (const stored of base?.entries ?? []) this.#known.set(stored.entry.path.toString('latin1'), stored)
  }

  async add(input: TreeInput): Promise<void> {
    const key = input.path.toString('latin1')
    if (this.#paths.has(key)) throw new Error(`path given twice: ${key}`)
    const parent = key.includes('/') ? key.slice(0, key.lastIndexOf('/')) : ''
    if (key !== '' && !this.#paths.has(parent)) throw new Error(`entry before its folder: ${key}`)
    if (input.hardLinkTo && !this.#paths.has(input.hardLinkTo.toString('latin1'))) throw new Error(`link before its file: ${key}`)
    if ((input.type === 'file' && !input.hardLinkTo) !== (input.content !== undefined)) throw new Error(`content of ${key}`)
    const { content, ...entry } = input
    const known = this.#known.get(key)
    if (content && known?.identity === content.identity) {
      this.unchanged++
      this.#store(key, { ...known, entry })
      return
    }
    if (!content) return this.#store(key, { entry, identity: null, extents: [] })
    const read = await this.#read(content.read())
    if (read) this.#store(key, { ...read, entry: { ...entry, size: read.size, mtimeNs: read.mtimeNs } })
  }

  #store(key: string, stored: StoredEntry): void {
    this.#paths.add(key)
    this.entries.push({ entry: stored.entry, identity: stored.identity, extents: stored.extents })
    this.bytes += stored.entry.size
  }

  /** Null when the file has vanished. */
  async #read(content: AsyncGenerator<Extent, { identity: string | null; size: number; mtimeNs: bigint }>) {
    const extents: Extent[] = []
    try {
      for (;;) {
        const next = await content.next()
        if (next.done) return { ...next.value, extents }
        extents.push({ offset: next.value.offset, bytes: await this.#accept(next.value.bytes) })
      }
    } catch (error) {
      await content.return({ identity: null, size: 0, mtimeNs: 0n })
      if (isHoldfastError(error, 'source_missing')) return null
      throw error
    }
  }
}

/** Gives a backup out again, cut otherwise than it came in, so that no engine can rely on the cuts, nor on extents that it has had. */
export function memorySource(backup: MemoryBackup, fingerprint: Fingerprint, options: MemoryOptions = {}): BackupSource {
  let total = 0
  const pieces = async function* (bytes: Buffer): AsyncGenerator<Buffer> {
    const sizes = [1, 4095, 65_536, 7, 300_001]
    for (let offset = 0, turn = 0; offset < bytes.length; turn++) {
      const piece = Buffer.from(bytes.subarray(offset, offset + (sizes[turn % sizes.length] ?? 1)))
      await nextTurn()
      yield piece
      offset += piece.length
      total += piece.length
      options.onBytes?.(total)
    }
  }
  const read = (extents: readonly Extent[]) =>
    async function* (): AsyncGenerator<Extent> {
      let before: Buffer | null = null
      for (const extent of extents) {
        let offset = extent.offset
        for await (const bytes of pieces(extent.bytes)) {
          yield { offset, bytes }
          offset += bytes.length
          // valid until the one after the next is asked for, which is now: the repository has given the memory to other bytes
          before?.fill(0xdb)
          before = bytes
        }
      }
    }
  return {
    fingerprint,
    async *artifacts(): AsyncGenerator<ArtifactInfo> {
      for (const { meta, bytes } of backup.streams.values()) yield info('stream', meta, bytes.length)
      for (const { meta, entries } of backup.trees.values()) {
        yield info(
          'tree',
          meta,
          entries.reduce((sum, { entry }) => sum + entry.size, 0),
        )
      }
    },
    async *openStream(name: string): AsyncGenerator<Buffer> {
      yield* pieces(found(backup.streams, name).bytes)
    },
    async *openTree(name: string, accept: (entry: TreeEntry) => boolean = () => true): AsyncGenerator<TreeOutput> {
      for (const { entry, extents } of found(backup.trees, name).entries) {
        await nextTurn()
        if (!accept(entry)) continue
        yield entry.type === 'file' && !entry.hardLinkTo ? { ...entry, read: read(extents) } : entry
      }
    },
  }
}

function info(kind: 'stream' | 'tree', meta: ArtifactMeta | TreeMeta, bytes: number): ArtifactInfo {
  const part = 'part' in meta ? meta.part : undefined
  return { kind, name: meta.name, ...(part === undefined ? {} : { part }), bytes, facts: meta.facts ?? {} }
}

function found<T>(map: Map<string, T>, name: string): T {
  const value = map.get(name)
  if (value) return value
  throw new HoldfastError('object_missing', `artifact ${JSON.stringify(name)} is not in the backup`)
}
