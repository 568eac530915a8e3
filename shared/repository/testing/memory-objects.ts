import { HoldfastError } from '../../errors.ts'
import { type BackupPlaceRef, objectKey } from '../../manifest/layout.ts'
import type { ObjectSink, ObjectSource } from '../repository.ts'

/** A target in memory, with the rules of a real one: whole objects, never replaced. */
export class MemoryObjects implements ObjectSource {
  readonly objects = new Map<string, Buffer>()
  gets: Array<{ key: string; offset: number; length: number }> = []
  putBytes = 0

  sink(backup: BackupPlaceRef): ObjectSink {
    return {
      put: async (name, bytes, sha256, signal) => {
        signal.throwIfAborted()
        this.put(objectKey(backup, name), Buffer.from(bytes), sha256)
      },
    }
  }

  put(key: string, bytes: Buffer, _sha256?: Buffer): void {
    const before = this.objects.get(key)
    if (before && !before.equals(bytes)) throw new HoldfastError('object_conflict', `${key} is there already`)
    this.objects.set(key, bytes)
    this.putBytes += bytes.length
  }

  async get(key: string, range: { offset: number; length: number } | null, signal: AbortSignal): Promise<Buffer> {
    signal.throwIfAborted()
    const bytes = this.objects.get(key)
    if (!bytes) throw new HoldfastError('object_missing', `${key} is missing`)
    const part = Buffer.from(range ? bytes.subarray(range.offset, range.offset + range.length) : bytes)
    this.gets.push({ key, offset: range?.offset ?? 0, length: part.length })
    return part
  }

  head = async (key: string) => {
    const bytes = this.objects.get(key)
    return bytes ? { size: bytes.length, sha256: null } : null
  }
}
