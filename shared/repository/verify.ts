import { randomInt } from 'node:crypto'
import { HoldfastError, isHoldfastError } from '../errors.ts'
import { objectKey } from '../manifest/layout.ts'
import { fetchObject, type Origin } from './block-source.ts'
import { attemptOfPack, damaged, LIMITS, PACK_NAME, sha256 } from './format.ts'
import { checkChunks, openWholePack, PackOpener } from './pack.ts'
import type { RepositoryReader } from './reader.ts'
import type { ObjectError } from './repository.ts'

type OnError = (error: ObjectError) => void

/**
 * Reads back every object that the backup needs, opens every block, hashes every chunk, and follows every run. Errors that
 * concern an object are reported with its key; what hinders the reading itself (a target that is away) is thrown.
 */
export async function verifyBackup(reader: RepositoryReader, onError: OnError): Promise<{ bytes: number; objects: number }> {
  const totals = { bytes: 0, objects: 0 }
  const bad = new Set<string>()
  const report = (error: ObjectError) => {
    bad.add(error.key)
    onError(error)
  }
  for (const [number, origin] of reader.origins.entries()) {
    const wanted = number === 0 ? null : await packsWanted(reader, number, report)
    for (const object of factsOf(reader, origin).objects) {
      const isPack = PACK_NAME.test(object.name)
      if (wanted && (isPack ? !wanted.has(object.name) : !object.name.startsWith('keys/'))) continue
      const found = await caught(objectKey(origin.ref, object.name), report, async () => checkObject(reader, origin, object))
      totals.objects++
      totals.bytes += found ?? 0
    }
  }
  await followRuns(reader, bad, report)
  return totals
}

function factsOf(reader: RepositoryReader, origin: Origin) {
  const manifest = origin === reader.origins[0] ? reader.manifest : reader.options.leansOn.get(origin.ref.id)
  if (!manifest) throw new HoldfastError('internal', `no manifest for ${origin.ref.id}`)
  return manifest.facts
}

/** The bytes read. */
async function checkObject(reader: RepositoryReader, origin: Origin, object: { name: string; size: number; sha256: string }) {
  const key = objectKey(origin.ref, object.name)
  const isPack = PACK_NAME.test(object.name)
  if (object.size > (isPack ? LIMITS.pack : LIMITS.head)) throw damaged(key, 'it is too large')
  const { objects, signal } = reader.options
  signal.throwIfAborted()
  const bytes = await fetchObject(objects, key, { offset: 0, length: object.size }, signal)
  if (sha256(bytes).toString('hex') !== object.sha256) throw damaged(key, 'its bytes are not those that were stored')
  if (isPack) {
    const attempt = attemptOfPack(object.name)
    const place = { backup: origin.ref, attempt, object: object.name }
    await openWholePack(new PackOpener(place, origin.keys(attempt), bytes), bytes)
  }
  return bytes.length
}

/** Names of the packs of a leaned-on backup that this one uses. */
async function packsWanted(reader: RepositoryReader, number: number, report: OnError): Promise<Set<string>> {
  const names = new Set<string>()
  const { contentsKey } = reader
  await caught(contentsKey, report, async () => {
    for await (const row of reader.rows()) {
      for await (const record of reader.body(row).records()) {
        if (record.kind !== 'run' || record.run.origin !== number) continue
        const name = reader.origins[number]?.packs[record.run.pack]?.name
        if (name) names.add(name)
      }
    }
  })
  return names
}

/** Every run must lie within its pack, and the lengths must add up to what the contents say. */
async function followRuns(reader: RepositoryReader, bad: Set<string>, report: OnError): Promise<void> {
  const { contentsKey } = reader
  await caught(contentsKey, report, async () => {
    for await (const row of reader.rows()) {
      let bytes = 0
      let entrySize = 0
      for await (const record of reader.body(row).records()) {
        if (record.kind === 'hole') bytes += record.length
        if (record.kind === 'entry') entrySize += record.entry.type === 'file' && !record.entry.hardLinkTo ? record.entry.size : 0
        if (record.kind !== 'run') continue
        const { origin, pack, block, first, count } = record.run
        const of = reader.origins[origin]
        const name = of?.packs[pack]?.name
        if (!of || !name) throw reader.fail('a run names a pack that no manifest names')
        if (bad.has(objectKey(of.ref, name))) return
        const { directory, opener } = await reader.blocks.pack(origin, pack)
        if (block >= directory.blocks || first + count > directory.chunksOf(block)) throw opener.fail('a run lies outside of it')
        for (let n = first; n < first + count; n++) bytes += directory.chunkLength(block, n)
      }
      const expected = row.kind === 'tree' ? entrySize : row.bytes
      if (bytes !== expected)
        throw reader.fail(`${row.kind} ${JSON.stringify(row.name)} has ${bytes} bytes where ${expected} are said`)
    }
  })
}

/** Opens random blocks: `count` of this backup's own, and `count` of those it leans on. */
export async function sampleBackup(reader: RepositoryReader, count: number, onError: OnError): Promise<{ blocks: number }> {
  let blocks = 0
  const groups = [[0], reader.origins.map((_, n) => n).slice(1)]
  for (const origins of groups) {
    const packs = origins.flatMap((origin) => (reader.origins[origin]?.packs ?? []).map((_, pack) => ({ origin, pack })))
    for (let n = 0; n < count && packs.length > 0; n++) {
      const { origin, pack } = packs[randomInt(packs.length)] as { origin: number; pack: number }
      const of = reader.origins[origin] as Origin
      await caught(objectKey(of.ref, of.packs[pack]?.name ?? ''), onError, async () => {
        const { directory, opener } = await reader.blocks.pack(origin, pack)
        const block = randomInt(directory.blocks)
        checkChunks(opener, directory, block, (await reader.blocks.block(origin, pack, block)).plain)
        blocks++
      })
    }
  }
  return { blocks }
}

/** The result, or undefined after a report. `key` names the object when the error doesn't. */
async function caught<T>(key: string, report: OnError, work: () => Promise<T>): Promise<T | undefined> {
  try {
    return await work()
  } catch (error) {
    if (!isHoldfastError(error)) throw error
    const { code } = error
    if (code !== 'object_missing' && code !== 'object_damaged' && code !== 'key_missing') throw error
    report({ code, key: typeof error.context?.key === 'string' ? error.context.key : key, message: error.message })
    return undefined
  }
}
