/**
 * Gives the memory of bytes back at once, which nobody looks at any more. What a connection gives in pieces of 16 KiB is a few small objects to V8: left to the collector, tens of
 * megabytes of it pile up. A view of something larger is left alone, since that holds other bytes too.
 */
export function giveBack({ buffer, byteOffset, length }: Buffer): void {
  if (buffer instanceof ArrayBuffer && byteOffset === 0 && length === buffer.byteLength) buffer.transfer(0)
}
