/** Small binary records: a growing writer and a bounded reader. Layouts are in FORMAT.md. */

export class ByteWriter {
  #bytes: Buffer
  #length = 0

  constructor(capacity = 4096) {
    this.#bytes = Buffer.allocUnsafe(capacity)
  }

  get length(): number {
    return this.#length
  }

  /** A view that stays right until the next write. */
  view(): Buffer {
    return this.#bytes.subarray(0, this.#length)
  }

  copy(): Buffer {
    return Buffer.from(this.view())
  }

  clear(): void {
    this.#length = 0
  }

  u8(value: number): this {
    this.#room(1)
    this.#bytes[this.#length++] = value
    return this
  }

  u32(value: number): this {
    this.#room(4)
    this.#length = this.#bytes.writeUInt32LE(value, this.#length)
    return this
  }

  i64(value: bigint): this {
    this.#room(8)
    this.#length = this.#bytes.writeBigInt64LE(value, this.#length)
    return this
  }

  varint(value: number): this {
    this.#room(8)
    let rest = value
    while (rest >= 128) {
      this.#bytes[this.#length++] = (rest % 128) | 128
      rest = Math.floor(rest / 128)
    }
    this.#bytes[this.#length++] = rest
    return this
  }

  bytes(value: Uint8Array): this {
    this.#room(value.length)
    this.#bytes.set(value, this.#length)
    this.#length += value.length
    return this
  }

  /** What the other holds: a view of it would cost more than the copy. */
  joined(other: ByteWriter): this {
    this.#room(other.#length)
    other.#bytes.copy(this.#bytes, this.#length, 0, other.#length)
    this.#length += other.#length
    return this
  }

  /** Length as a varint, then the bytes. */
  sized(value: Uint8Array): this {
    return this.varint(value.length).bytes(value)
  }

  #room(more: number): void {
    if (this.#length + more <= this.#bytes.length) return
    const grown = Buffer.allocUnsafe(Math.max(this.#bytes.length * 2, this.#length + more))
    this.#bytes.copy(grown, 0, 0, this.#length)
    this.#bytes = grown
  }
}

/** Every read is checked against the end; `fail` makes the error that names the object. */
export class ByteReader {
  readonly bytes: Buffer
  readonly #fail: (what: string) => Error
  at: number

  constructor(bytes: Buffer, fail: (what: string) => Error, at = 0) {
    this.bytes = bytes
    this.#fail = fail
    this.at = at
  }

  get left(): number {
    return this.bytes.length - this.at
  }

  u8(): number {
    this.#need(1)
    return this.bytes[this.at++] as number
  }

  u32(): number {
    this.#need(4)
    const value = this.bytes.readUInt32LE(this.at)
    this.at += 4
    return value
  }

  i64(): bigint {
    this.#need(8)
    const value = this.bytes.readBigInt64LE(this.at)
    this.at += 8
    return value
  }

  varint(max = Number.MAX_SAFE_INTEGER): number {
    let value = 0
    let scale = 1
    for (let n = 0; n < 8; n++) {
      const byte = this.u8()
      value += (byte & 127) * scale
      if (byte < 128) {
        if (byte === 0 && n > 0) throw this.#fail('a number that is longer than it need be')
        if (value > max) throw this.#fail(`a number of ${value} where ${max} is the most`)
        return value
      }
      scale *= 128
    }
    throw this.#fail('a number that does not end')
  }

  /** A view, not a copy. */
  take(length: number): Buffer {
    this.#need(length)
    const out = this.bytes.subarray(this.at, this.at + length)
    this.at += length
    return out
  }

  sized(max: number): Buffer {
    return this.take(this.varint(max))
  }

  fail(what: string): Error {
    return this.#fail(what)
  }

  #need(length: number): void {
    if (length > this.left) throw this.#fail('it ends too early')
  }
}
