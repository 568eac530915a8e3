import { hash } from 'node:crypto'
import { varint } from './format.ts'

const BLOCK_BYTES = 64
const HASH_BYTES = 32
const TAG_BYTES = 16

/**
 * Tags of paths and identities in one tree (FORMAT.md section 10): HMAC-SHA256, keyed, so that a tag confirms nothing to who lacks the key. Made
 * of two hashes (RFC 2104), since a million of Node's Hmac objects cost ten times what is computed with them, and a collection each for many.
 */
export class IdentityTags {
  /** The inner key and the tree's name, then room for what follows. */
  #inner: Buffer
  readonly #prefix: number
  readonly #outer = Buffer.alloc(BLOCK_BYTES + HASH_BYTES)

  constructor(identityKey: Buffer, tree: string) {
    if (identityKey.length > BLOCK_BYTES) throw new RangeError(`a key of ${identityKey.length} bytes`)
    const name = Buffer.from(tree)
    const prefix = Buffer.concat([padded(identityKey, 0x36), varint(name.length), name])
    this.#prefix = prefix.length
    this.#inner = Buffer.alloc(prefix.length + 1024)
    prefix.copy(this.#inner)
    padded(identityKey, 0x5c).copy(this.#outer)
  }

  of(path: Buffer, identity: string): Buffer {
    // no character of UTF-16 takes more than three bytes, and no length more than eight
    const most = this.#prefix + 8 + path.length + identity.length * 3
    if (most > this.#inner.length) this.#grow(most)
    let end = this.#prefix
    if (path.length < 128) this.#inner[end++] = path.length
    else end += varint(path.length).copy(this.#inner, end)
    end += path.copy(this.#inner, end)
    end += this.#inner.write(identity, end)
    // by way of text: a buffer of Node's own for each is work for its collector
    this.#outer.write(hash('sha256', this.#inner.subarray(0, end), 'latin1'), BLOCK_BYTES, 'latin1')
    return Buffer.from(hash('sha256', this.#outer, 'latin1').slice(0, TAG_BYTES), 'latin1')
  }

  #grow(bytes: number): void {
    const grown = Buffer.alloc(bytes * 2)
    this.#inner.copy(grown, 0, 0, this.#prefix)
    this.#inner = grown
  }
}

function padded(key: Buffer, byte: number): Buffer {
  const block = Buffer.alloc(BLOCK_BYTES, byte)
  for (let n = 0; n < key.length; n++) (block[n] as number) ^= key[n] as number
  return block
}
