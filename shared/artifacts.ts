import type { Fingerprint } from './results.ts'

/**
 * What a backup consists of, as engines see it: streams and trees. Engines write them to a `BackupSink` and read them
 * from a `BackupSource`; how they are stored is the repository's affair alone.
 */

/** How a stream is cut into chunks, the unit of finding duplicates. Recorded in the contents. */
export type Chunking =
  | { readonly kind: 'content-defined'; readonly averageBytes: number }
  /** For data made of pages, rewritten in place. */
  | { readonly kind: 'fixed'; readonly bytes: number }

export interface ArtifactMeta {
  /** Unique within the backup. Any text: it lives only in sealed objects. */
  readonly name: string
  /** The part of the source it belongs to, as `show` names parts; absent when it belongs to the whole. */
  readonly part?: string
  readonly chunking: Chunking
  /** False when the bytes are known to be compressed already. */
  readonly compressible?: boolean
  /** What restoring needs to know, for example the column list of a COPY. */
  readonly facts?: Readonly<Record<string, string>>
}

export interface ArtifactDigest {
  readonly bytes: number
}

export interface TreeMeta {
  readonly name: string
  readonly chunking: Chunking
  readonly facts?: Readonly<Record<string, string>>
}

export interface TreeDigest {
  readonly entries: number
  readonly bytes: number
  /** Files whose identity was that of the base, so that they were not read. */
  readonly unchanged: number
}

export type TreeEntryType = 'file' | 'directory' | 'symlink' | 'fifo' | 'socket' | 'char-device' | 'block-device'

export interface TreeEntry {
  /** Relative to the tree's root, "/" between segments, raw bytes; the root itself is empty. Unique. */
  readonly path: Buffer
  readonly type: TreeEntryType
  /** Permission bits with set-uid, set-gid and sticky: mode & 0o7777. */
  readonly mode: number
  readonly uid: number
  readonly gid: number
  readonly mtimeNs: bigint
  /** Apparent size of a file; 0 for the rest. */
  readonly size: number
  readonly linkTarget?: Buffer
  /** Path of the entry, earlier in this tree, that this one is another name of. No content then. */
  readonly hardLinkTo?: Buffer
  readonly device?: { readonly major: number; readonly minor: number }
  readonly xattrs?: ReadonlyArray<{ readonly name: Buffer; readonly value: Buffer }>
}

/** An entry on its way into a backup. */
export interface TreeInput extends TreeEntry {
  /** Only for files that are not hard links. */
  readonly content?: FileContent
}

export interface FileContent {
  /** Changes whenever the bytes may have changed (device, inode, size, mtime, ctime). Same as in the base: not read. */
  readonly identity: string
  /**
   * Data extents in rising order; what is between them, and up to `size`, is a hole. Throws `source_missing` when the
   * file has vanished: the entry is then left out. The return value is what the file was like at the end of reading:
   * identity null means it changed meanwhile and must be read again next time.
   */
  read(): AsyncGenerator<Extent, { identity: string | null; size: number; mtimeNs: bigint }>
}

/** Valid until the next one is asked for. */
export interface Extent {
  readonly offset: number
  readonly bytes: Buffer
}

/** An entry coming out of a backup. */
export interface TreeOutput extends TreeEntry {
  /**
   * Data extents in rising order, each chunk checked before a byte of it is given out. Each is valid until the one after the next is asked for, so
   * that one can be written while the next is made.
   */
  read?(): AsyncIterable<Extent>
}

export type StreamBytes =
  /** Each piece is valid until the next is asked for. */
  | AsyncIterable<Buffer>
  /** Read where chunking happens, without a detour: a named pipe or a file the sink opens itself. */
  | { readonly fifo: string }
  | { readonly file: string; readonly offset?: number; readonly length?: number }

/** Back-pressured; several artifacts may be written at the same time. A name used twice throws `already_exists`. */
export interface BackupSink {
  stream(meta: ArtifactMeta, bytes: StreamBytes): Promise<ArtifactDigest>
  tree(meta: TreeMeta, entries: AsyncIterable<TreeInput>): Promise<TreeDigest>
}

export interface ArtifactInfo {
  readonly kind: 'stream' | 'tree'
  readonly name: string
  readonly part?: string
  readonly bytes: number
  readonly facts: Readonly<Record<string, string>>
}

/**
 * What lies already where a tree is restored: foreign, and changed by whoever likes while it is read. It is believed chunk by chunk, by the hash of the
 * very bytes that are then given out, and saves fetching them.
 */
export interface EarlierTree {
  /** Files that may hold content of this entry where the entry has it, the likeliest first. Whoever asks closes them. */
  open(entry: TreeEntry): readonly EarlierFile[]
}

export interface EarlierFile {
  /** What is beyond is not asked for. */
  readonly size: number
  /** Fills `into`. False where that cannot be read: it is fetched then. */
  read(into: Buffer, offset: number): Promise<boolean>
  close(): void
}

/** Read side: any order, in parallel. Untrusted until checked: every chunk is checked before it is given out. */
export interface BackupSource {
  readonly fingerprint: Fingerprint
  artifacts(): AsyncIterable<ArtifactInfo>
  /** Throws `object_damaged` or `object_missing` naming the object; the stream's digest is checked at its end. */
  openStream(name: string): AsyncIterable<Buffer>
  /** In the order written. `accept` is asked before anything of an entry is fetched. What `earlier` holds need not be fetched. */
  openTree(name: string, accept?: (entry: TreeEntry) => boolean, earlier?: EarlierTree): AsyncIterable<TreeOutput>
}
