import { createHash } from 'node:crypto'
import type { BlockPipeline } from './block-pipeline.ts'
import { ByteWriter } from './bytes.ts'
import { KIB, LIMITS, PAGE, TARGETS } from './format.ts'
import type { KnownSegment } from './known-blobs.ts'
import type { KnownDraft } from './known-draft.ts'
import type { Places } from './places.ts'
import type { References } from './references.ts'
import { RECORD, type RunState, START, writeRun } from './runs.ts'

/** Pages that hold rows of more than one artifact, and what all bodies share. */
export interface BodyContext {
  readonly places: Places
  readonly references: References
  readonly pipeline: BlockPipeline
  readonly draft: KnownDraft
  readonly treePages: PageFiller
}

export type BodyPlace = { readonly inline: Buffer } | { readonly pages: readonly number[] }

/** Fills pages of one type and submits each when it is full. */
export class PageFiller {
  readonly #type: number
  readonly #kind: 'page' | 'index'
  readonly #pipeline: BlockPipeline
  readonly #page = new ByteWriter()
  /** Numbers (of Places) of the pages submitted so far. */
  readonly pages: number[] = []

  constructor(type: number, kind: 'page' | 'index', pipeline: BlockPipeline) {
    this.#type = type
    this.#kind = kind
    this.#pipeline = pipeline
  }

  get empty(): boolean {
    return this.#page.length === 0
  }

  /** Makes room for a record of this length; true when it begins a new page. */
  makeRoom(length: number): boolean {
    const full = this.#page.length + length > LIMITS.page || this.#page.length >= TARGETS.page
    if (!this.empty && !full) return false
    this.flush()
    this.#page.u8(this.#type)
    return true
  }

  add(record: ByteWriter): void {
    this.makeRoom(record.length)
    this.#page.joined(record)
  }

  flush(): void {
    if (this.empty) return
    this.pages.push(this.#pipeline.submitPage(this.#kind, this.#page.copy()))
    this.#page.clear()
  }

  /** What is not in a page yet, without the type. */
  rest(): Buffer {
    return this.#page.copy().subarray(1)
  }
}

type Pending =
  | { kind: 'run'; ref: number; first: number; count: number }
  | { kind: 'hole'; length: number }
  | { kind: 'entry'; bytes: Buffer; tag: Buffer | null; size: number }

const DIGESTED = 16 * KIB

/** Largest record besides entries: a run or a hole. */
const SMALL_RECORD = 32

/**
 * The body of one artifact. Runs wait here until their blocks have a place; the order is kept. A file's entry is added when the
 * file has been read (`entry` before its segments in the body: see `file`).
 */
export class BodyWriter {
  readonly #context: BodyContext
  readonly #pages: PageFiller
  readonly #digest = createHash('sha256')
  /** Records that the digest has not seen yet: it is told of many at once. */
  readonly #undigested = new ByteWriter(2 * DIGESTED)
  readonly #record = new ByteWriter(64)
  #pending: Pending[] = []
  #before: RunState = START
  /** Of the file that is being encoded, when it has a tag. */
  #file: { tag: Buffer; size: number; segments: KnownSegment[]; before: RunState } | null = null
  /** Its runs and holes for the index; then its whole record there, without its length and with it. Used again for each file. */
  readonly #row = new ByteWriter(256)
  readonly #rest = new ByteWriter(256)
  readonly #sized = new ByteWriter(256)

  constructor(context: BodyContext) {
    this.#context = context
    this.#pages = new PageFiller(PAGE.body, 'page', context.pipeline)
  }

  run(ref: number, first: number, count: number): void {
    addSegment(this.#pending, { kind: 'run', ref, first, count })
  }

  /** An entry, which is not kept, and its segments. `tag` lets the next backup leave the file unread. */
  file(entry: ByteWriter, tag: Buffer | null, size: number, segments: readonly KnownSegment[]): void {
    if (this.#pending.length === 0 && segments.every((one) => 'hole' in one || this.#context.places.isPlaced(one.ref))) {
      return this.#encodeWhole(entry, tag, size, segments)
    }
    this.#pending.push({ kind: 'entry', bytes: entry.copy(), tag, size })
    for (const segment of segments) {
      if ('hole' in segment) this.#pending.push({ kind: 'hole', length: segment.hole })
      else addSegment(this.#pending, { kind: 'run', ...segment })
    }
  }

  /** Encodes what has its place. `end` when nothing follows; every block must have its place then. */
  drain(end = false): void {
    // the last run of a stream may still grow while its block is open
    if (this.#pending.length === 0) return end ? this.#endFile() : undefined
    let done = 0
    for (const item of this.#pending) {
      if (item.kind === 'run' && !this.#context.places.isPlaced(item.ref)) break
      this.#encode(item)
      done++
    }
    this.#pending.splice(0, done)
    if (end && this.#pending.length > 0) throw new Error('a block of a finished artifact has no place')
    if (end) this.#endFile()
  }

  /** `records`: the SHA-256 of all records. */
  finish(): { body: BodyPlace; records: Buffer } {
    this.drain(true)
    this.#digestRecords()
    const records = this.#digest.digest()
    if (this.#pages.pages.length === 0) {
      const rest = this.#pages.empty ? Buffer.alloc(0) : this.#pages.rest()
      if (rest.length <= TARGETS.inlineBody) return { body: { inline: rest }, records }
    }
    this.#pages.flush()
    return { body: { pages: this.#pages.pages }, records }
  }

  #encode(item: Pending): void {
    if (item.kind === 'entry') this.#encodeEntry(item)
    else if (item.kind === 'hole') this.#encodeHole(item.length)
    else this.#encodeRun(item.ref, item.first, item.count)
  }

  /** Of an unchanged file all has its place: it need not wait here. Joined are its runs already. */
  #encodeWhole(entry: ByteWriter, tag: Buffer | null, size: number, segments: readonly KnownSegment[]): void {
    this.#record.clear()
    this.#record.u8(RECORD.entry).varint(entry.length).joined(entry)
    this.#beginEntry(tag, size)
    for (const segment of segments) {
      if ('hole' in segment) this.#encodeHole(segment.hole)
      else this.#encodeRun(segment.ref, segment.first, segment.count)
    }
  }

  #encodeEntry({ bytes, tag, size }: Pending & { kind: 'entry' }): void {
    this.#record.clear()
    this.#record.u8(RECORD.entry).sized(bytes)
    this.#beginEntry(tag, size)
  }

  /** `#record` holds it. */
  #beginEntry(tag: Buffer | null, size: number): void {
    this.#endFile()
    this.#emit(this.#record)
    if (!tag) return
    this.#file = { tag, size, segments: [], before: START }
    this.#row.clear()
  }

  #encodeHole(length: number): void {
    this.#record.clear()
    this.#record.u8(RECORD.hole).varint(length)
    this.#emit(this.#record)
    if (!this.#file) return
    this.#file.segments.push({ hole: length })
    this.#row.joined(this.#record)
  }

  #encodeRun(ref: number, first: number, count: number): void {
    const run = this.#context.references.use(ref, first, count)
    // before it is encoded: at the start of a page the run before is forgotten
    this.#makeRoom(SMALL_RECORD)
    this.#record.clear()
    this.#before = writeRun(this.#record, run, this.#before)
    this.#emit(this.#record)
    if (!this.#file) return
    this.#file.segments.push({ ref, first, count })
    this.#file.before = writeRun(this.#row, run, this.#file.before)
  }

  #makeRoom(length: number): void {
    if (this.#pages.makeRoom(length)) this.#before = START
  }

  #emit(record: ByteWriter): void {
    this.#makeRoom(record.length)
    this.#pages.add(record)
    this.#undigested.joined(record)
    if (this.#undigested.length >= DIGESTED) this.#digestRecords()
  }

  #digestRecords(): void {
    this.#digest.update(this.#undigested.view())
    this.#undigested.clear()
  }

  #endFile(): void {
    const file = this.#file
    this.#file = null
    if (!file) return
    this.#rest.clear()
    const rest = this.#rest.bytes(file.tag).varint(file.size).joined(this.#row)
    // a file of more pieces than fit into a page is read again next time instead; its chunks are known all the same
    if (rest.length > LIMITS.page - SMALL_RECORD) return
    this.#sized.clear()
    this.#context.treePages.add(this.#sized.varint(rest.length).joined(rest))
    this.#context.draft.addFile(file.tag, { size: file.size, segments: file.segments })
  }
}

/** Joins a run with the one before it where it goes on in the same block. */
function addSegment(list: Pending[], run: Pending & { kind: 'run' }): void {
  const last = list.at(-1)
  if (last?.kind === 'run' && last.ref === run.ref && last.first + last.count === run.first) last.count += run.count
  else list.push(run)
}
