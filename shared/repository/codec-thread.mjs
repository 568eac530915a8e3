import { parentPort } from 'node:worker_threads'
import { packChecked } from './packing.mjs'

// The program of a thread: packs the blocks that it is given, one after the other, and gives each back in the memory that it came in.
parentPort.on('message', ({ id, memory, length, crc, compressible }) => {
  try {
    const packed = packChecked({ buffer: Buffer.from(memory), length, crc, compressible })
    parentPort.postMessage({ id, memory, codec: packed.codec, length: packed.length, crc: packed.crc }, [memory])
  } catch (error) {
    parentPort.postMessage({ id, error })
  }
})
