import type { TreeEntry } from '../artifacts.ts'
import type { BlockSource } from './block-source.ts'
import { ByteReader } from './bytes.ts'
import type { ArtifactRow } from './contents.ts'
import { readEntry } from './entries.ts'
import { LIMITS, PAGE } from './format.ts'
import { isRun, RECORD, type Run, type RunState, readRun, START } from './runs.ts'

/** Where a record begins in a body, with what is needed to read on from there. */
export interface Cursor {
  readonly page: number
  readonly at: number
  readonly before: RunState
}

export type BodyRecord =
  | { readonly kind: 'run'; readonly run: Run }
  | { readonly kind: 'hole'; readonly length: number }
  | { readonly kind: 'entry'; readonly entry: TreeEntry; readonly after: Cursor }

/** Records of one artifact's body, read page by page: never more than a page in memory. */
export class BodyReader {
  readonly #row: ArtifactRow
  readonly #blocks: BlockSource
  readonly #fail: (what: string) => Error

  /** `fail` names the contents, for a body that stands in them. */
  constructor(row: ArtifactRow, blocks: BlockSource, fail: (what: string) => Error) {
    this.#row = row
    this.#blocks = blocks
    this.#fail = fail
  }

  /** `onRecord` gets each record's bytes, for the digest. */
  async *records(from?: Cursor, onBytes?: (bytes: Buffer) => void): AsyncGenerator<BodyRecord> {
    for (let page = from?.page ?? 0; page < this.#pages; page++) {
      const { bytes, fail, start } = await this.#page(page)
      const first = from?.page === page ? from : { at: start, before: START }
      const reader = new ByteReader(bytes, fail, first.at)
      let before = first.before
      while (reader.left > 0) {
        const begin = reader.at
        const tag = reader.u8()
        if (isRun(tag)) {
          before = readRun(reader, tag, before)
          onBytes?.(bytes.subarray(begin, reader.at))
          yield { kind: 'run', run: before }
        } else if (tag === RECORD.hole) {
          const length = reader.varint()
          onBytes?.(bytes.subarray(begin, reader.at))
          yield { kind: 'hole', length }
        } else if (tag === RECORD.entry) {
          const entry = readEntry(reader.sized(LIMITS.entry), fail)
          onBytes?.(bytes.subarray(begin, reader.at))
          yield { kind: 'entry', entry, after: { page, at: reader.at, before } }
        } else throw fail('a body has an unknown record')
      }
    }
  }

  get #pages(): number {
    return 'inline' in this.#row.body ? 1 : this.#row.body.pages.length
  }

  async #page(page: number): Promise<{ bytes: Buffer; fail: (what: string) => Error; start: number }> {
    const { body } = this.#row
    if ('inline' in body) return { bytes: Buffer.from(body.inline, 'base64'), fail: this.#fail, start: 0 }
    const [pack, block] = body.pages[page] as [number, number]
    return { ...(await readPage(this.#blocks, pack, block, PAGE.body)), start: 1 }
  }
}

/** A page of this backup, its type checked. */
export async function readPage(blocks: BlockSource, pack: number, block: number, type: number) {
  const open = await blocks.block(0, pack, block)
  const { opener } = open.pack
  const fail = (what: string) => opener.fail(`page ${block}: ${what}`)
  if (open.pack.directory.kind(block) === 'data' || open.plain[0] !== type) throw fail('it is of another type')
  return { bytes: open.plain, fail }
}
