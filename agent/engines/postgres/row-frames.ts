/** A message begins with its type, one byte, and its length with the length's own four bytes but without the type (PostgreSQL 18, 54.7). */
const HEAD_BYTES = 5
const COPY_DATA = 0x64
const COPY_DONE = 0x63
const COPY_OUT_RESPONSE = 0x48
/** No message of the server is as long as this: a row has at most 1 GiB (PostgreSQL 18, appendix K). */
const MOST_BYTES = 0x7fffffff
/** Shorter rows are moved eight bytes at a time here, which costs less than the call. */
const BY_CALL = 160

/**
 * Takes the rows of a COPY ... TO STDOUT out of what a server sends; all else is the client's. Bytes may come in any pieces. A row's length is never
 * believed beyond the bytes that have come: nothing is allocated for it.
 */
export class RowFrames {
  /** Rows as they follow each other, without what they came in. */
  #rows: Buffer = Buffer.alloc(0)
  #view: DataView = new DataView(this.#rows.buffer)
  #fill = 0
  /** Messages with rows, since `begin`: the server sends one for each row (54.2.6). */
  #count = 0
  #state: 'rows' | 'client' | 'nobody' = 'client'
  /** Of the message that has begun. */
  #left = 0
  readonly #head = Buffer.alloc(HEAD_BYTES)
  #headFill = 0
  #taking = false
  #others: Buffer[] = []

  /** Rows go into this memory from now on, to be asked for with `filled`. */
  begin(memory: Buffer): void {
    this.#taking = true
    this.#count = 0
    this.fillInto(memory)
  }

  /** The next rows go there. */
  fillInto(memory: Buffer): void {
    this.#rows = memory
    this.#view = new DataView(memory.buffer, memory.byteOffset, memory.length)
    this.#fill = 0
  }

  /** All is the client's again. */
  end(): void {
    this.#taking = false
    this.fillInto(Buffer.alloc(0))
  }

  get filled(): Buffer {
    return this.#rows.subarray(0, this.#fill)
  }

  get isFull(): boolean {
    return this.#taking && this.#fill === this.#rows.length
  }

  get count(): number {
    return this.#count
  }

  /** What has come for the client since it was asked last. */
  others(): Buffer | null {
    if (this.#others.length === 0) return null
    const bytes = Buffer.concat(this.#others)
    this.#others = []
    return bytes
  }

  /** Takes a piece from an offset on, to its end or until the memory for rows is full: how far. Throws for what is no message. */
  take(piece: Buffer, from: number): number {
    let at = from
    while (at < piece.length) {
      if (this.#left === 0) {
        at = this.#taking && this.#headFill === 0 ? this.#wholeRows(piece, at) : at
        if (at === piece.length) return at
        at = this.#begins(piece, at)
        continue
      }
      if (this.#state === 'rows' && this.isFull) return at
      at += this.#part(piece.subarray(at, at + this.#left))
    }
    return at
  }

  /** Most rows are short and come whole: where it stops there is something else. */
  #wholeRows(piece: Buffer, from: number): number {
    const source = new DataView(piece.buffer, piece.byteOffset, piece.length)
    const rows = this.#rows
    const view = this.#view
    let at = from
    let fill = this.#fill
    while (piece.length - at >= HEAD_BYTES && piece[at] === COPY_DATA) {
      const bytes = source.getInt32(at + 1) - 4
      const start = at + HEAD_BYTES
      const end = start + bytes
      if (bytes < 0 || end > piece.length || fill + bytes > rows.length) break
      at = end
      if (bytes >= BY_CALL) {
        piece.copy(rows, fill, start, end)
        fill += bytes
      } else {
        let next = start
        for (; next + 8 <= end; next += 8, fill += 8) view.setBigInt64(fill, source.getBigInt64(next))
        for (; next < end; next++, fill++) rows[fill] = piece[next] as number
      }
      this.#count++
    }
    this.#fill = fill
    return at
  }

  #begins(piece: Buffer, from: number): number {
    const taken = piece.copy(this.#head, this.#headFill, from)
    this.#headFill += taken
    if (this.#headFill < HEAD_BYTES) return from + taken
    this.#headFill = 0
    const type = this.#head[0]
    const bytes = this.#head.readUInt32BE(1) - 4
    if (bytes < 0 || bytes > MOST_BYTES) throw new Error('the server sent what is no message of its protocol')
    this.#left = bytes
    this.#state = this.#taking ? whose(type) : 'client'
    if (this.#state === 'rows') this.#count++
    if (this.#state === 'client') this.#others.push(Buffer.from(this.#head))
    return from + taken
  }

  /** Of the message that has begun: how much of it was taken. */
  #part(bytes: Buffer): number {
    let taken = bytes.length
    if (this.#state === 'rows') {
      taken = bytes.copy(this.#rows, this.#fill)
      this.#fill += taken
    } else if (this.#state === 'client') this.#others.push(Buffer.from(bytes))
    this.#left -= taken
    return taken
  }
}

/** That rows come, and that there are no more, says nothing that the end of the statement does not say. */
function whose(type: number | undefined): 'rows' | 'client' | 'nobody' {
  if (type === COPY_DATA) return 'rows'
  return type === COPY_OUT_RESPONSE || type === COPY_DONE ? 'nobody' : 'client'
}
