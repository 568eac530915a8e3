import type { Settings } from './packing.mjs'

/**
 * Compresses one large block after the other, each with the settings that fit what lies before it: NARROW where that stores at most half a per cent more than WIDE, as of rows. One block in
 * 48 is compressed in both ways to find out, and one that comes out otherwise than those before it.
 */
export declare class FittingCompressor {
  constructor(compressWith?: (plain: Buffer, settings: Settings) => Buffer)
  compress(plain: Buffer): Buffer
}
