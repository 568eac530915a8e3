/**
 * Whether these bytes are one frame and nothing after it. Node's decoder takes whatever follows a frame for none of its business, takes further
 * frames for more of the same, and in some versions gives out what there is of a frame that was cut off.
 */
export declare function isOneFrame(bytes: Buffer): boolean
