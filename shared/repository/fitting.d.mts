import type { Settings } from './packing.mjs'

/**
 * Compresses one large block after the other with the settings that fit what lies before it: FAST where that stores at most 3 % more than WIDE, else NARROW where it is half a per cent, else
 * WIDE. Now and then, at first more often, a block is compressed with WIDE too, and with the others from the fastest on until one fits. From one that comes out otherwise than the one that was tried it is WIDE until then.
 */
export declare class FittingCompressor {
  constructor(compressWith?: (plain: Buffer, settings: Settings) => Buffer)
  compress(plain: Buffer): Buffer
}
