// The outside of zstd frames (RFC 8878, section 3.1.1), read before the library gets them: by threads too, so that it is JavaScript (packing.mjs).

const MAGIC = 0xfd2fb528
const DICTIONARY_ID_BYTES = [0, 1, 2, 4]
const CONTENT_SIZE_BYTES = [0, 2, 4, 8]
const RLE = 1
const RESERVED = 3
const CHECKSUM_BYTES = 4

export function isOneFrame(bytes) {
  if (bytes.length < 6 || bytes.readUInt32LE(0) !== MAGIC) return false
  const descriptor = bytes[4]
  const isSingleSegment = (descriptor & 0x20) !== 0
  const sizeFlag = descriptor >> 6
  const contentSize = sizeFlag === 0 && isSingleSegment ? 1 : CONTENT_SIZE_BYTES[sizeFlag]
  let at = 5 + (isSingleSegment ? 0 : 1) + DICTIONARY_ID_BYTES[descriptor & 3] + contentSize
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
