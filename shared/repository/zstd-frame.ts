/** The outside of zstd frames (RFC 8878, section 3.1.1), read before the library gets them. */

const MAGIC = 0xfd2fb528
const DICTIONARY_ID_BYTES = [0, 1, 2, 4] as const
const CONTENT_SIZE_BYTES = [0, 2, 4, 8] as const
const RLE = 1
const RESERVED = 3
const CHECKSUM_BYTES = 4

/**
 * Whether these bytes are one frame and nothing after it. Node's decoder takes whatever follows a frame for none of its business, takes further
 * frames for more of the same, and in some versions gives out what there is of a frame that was cut off.
 */
export function isOneFrame(bytes: Buffer): boolean {
  if (bytes.length < 6 || bytes.readUInt32LE(0) !== MAGIC) return false
  const descriptor = bytes[4] as number
  const isSingleSegment = (descriptor & 0x20) !== 0
  const sizeFlag = descriptor >> 6
  const contentSize = sizeFlag === 0 && isSingleSegment ? 1 : (CONTENT_SIZE_BYTES[sizeFlag] as number)
  let at = 5 + (isSingleSegment ? 0 : 1) + (DICTIONARY_ID_BYTES[descriptor & 3] as number) + contentSize
  for (let isLast = false; !isLast; ) {
    if (at + 3 > bytes.length) return false
    const header = bytes.readUIntLE(at, 3)
    const type = (header >> 1) & 3
    if (type === RESERVED) return false
    isLast = (header & 1) === 1
    at += 3 + (type === RLE ? 1 : header >> 3)
  }
  return at + ((descriptor & 4) !== 0 ? CHECKSUM_BYTES : 0) === bytes.length
}
