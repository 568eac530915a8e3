import { createHash, type Hash, randomInt } from 'node:crypto'
import { isHoldfastError } from '../errors.ts'
import { canonicalBytes } from '../manifest/canonical.ts'
import { contentsName, manifestKey, objectKey } from '../manifest/layout.ts'
import type { ObjectFact } from '../manifest/manifest.ts'
import { fetchObject, type OpenPack, type Origin, originOf } from './block-source.ts'
import { attemptOfPack, damaged, LIMITS, PACK_NAME, sha256 } from './format.ts'
import { type OpenedParts, openParts } from './opened.ts'
import { PackOpener } from './pack.ts'
import type { ObjectError, ReaderOptions } from './repository.ts'
import type { Run } from './runs.ts'
import { choosePacks, isWhole, type PackToVerify, totalSize, type VerifyBudget } from './verify-budget.ts'
import { checkChunks, openWholePack } from './whole-pack.ts'

type OnError = (error: ObjectError) => void

export interface VerifiedStore {
  /** Of the objects that were read, or that would be. */
  readonly bytes: number
  readonly objects: number
  readonly packs: {
    readonly needed: number
    readonly needed_bytes: number
    readonly chosen: number
    readonly chosen_bytes: number
  }
  /** Packs that were read whole and are as they were stored: by backup, their numbers among the objects of its manifest. */
  readonly good: ReadonlyMap<string, readonly number[]>
}

/**
 * Reads back every object that the backup needs, opens every block, hashes every chunk, and follows every run. Damage is reported with
 * the object's key, even where it keeps the backup from being opened at all; what hinders the reading itself (a target that is away) is thrown.
 * With a budget the packs that it chooses are read, and runs are not compared with the directories of the others.
 */
export async function verifyStored(
  options: ReaderOptions,
  onError: OnError,
  budget: VerifyBudget = WHOLE,
): Promise<VerifiedStore> {
  const reported = new Set<string>()
  // damage of contents is met when they are opened and again when they are checked
  const once: OnError = (error) => {
    if (reported.has(error.key)) return
    reported.add(error.key)
    onError(error)
  }
  const contentsKey = objectKey(options.manifest.facts, contentsName(options.manifest.facts.attempt))
  const reader = await caught(contentsKey, once, () => openParts(options))
  const wanted =
    reader &&
    (await caught(contentsKey, once, () =>
      (isWhole(budget) ? followRuns(reader, once) : usedPacks(reader)).finally(() => reader.close()),
    ))
  const needed = neededObjects(options, wanted)
  const packs = needed.filter(({ isPack }) => isPack)
  const chosen = choosePacks(packs, budget)
  const toRead = isWhole(budget) ? needed : [...needed.filter(({ isPack }) => !isPack), ...chosen]
  const read: Needed[] = []
  for (const one of budget.planOnly ? [] : toRead) {
    const bytes = await caught(one.key, once, () => checkObject(options, one.origin, one.object))
    if (bytes !== undefined) read.push(one)
  }
  const good = Map.groupBy(
    read.filter(({ isPack, key }) => isPack && !reported.has(key)),
    ({ backupId }) => backupId,
  )
  return {
    bytes: totalSize(budget.planOnly ? toRead : read),
    objects: toRead.length,
    packs: {
      needed: packs.length,
      needed_bytes: totalSize(packs),
      chosen: chosen.length,
      chosen_bytes: totalSize(chosen),
    },
    good: new Map([...good].map(([id, ones]) => [id, ones.map(({ number }) => number)])),
  }
}

const WHOLE: VerifyBudget = { olderThanSeconds: 0, share: 1, planOnly: false, verifiedSecondsAgo: () => undefined }

interface Needed extends PackToVerify {
  readonly key: string
  readonly isPack: boolean
  /** Among the objects of its manifest. */
  readonly number: number
  readonly object: ObjectFact
  readonly origin: Origin
}

/** Everything of its own; of what it leans on the keys and the packs that it uses, or all where it cannot be told. */
function neededObjects(options: ReaderOptions, wanted: ReadonlySet<string> | undefined): Needed[] {
  const leaned = options.manifest.facts.leans_on.flatMap(({ id }) => options.leansOn.get(id)?.facts ?? [])
  return [options.manifest.facts, ...leaned].flatMap((facts) => {
    const own = facts === options.manifest.facts
    const origin = originOf(facts, (attempt) => options.keys(facts.id, attempt)?.reveal())
    return facts.objects.flatMap((object, number): Needed[] => {
      const { name, size } = object
      const isPack = PACK_NAME.test(name)
      const key = objectKey(facts, name)
      const needed = own || (isPack ? !wanted || wanted.has(key) : name.startsWith('keys/'))
      return needed ? [{ backupId: facts.id, name, size, key, isPack, number, object, origin }] : []
    })
  })
}

/**
 * The manifests in the store, of the backup and of what it leans on, are those that were committed: whoever has the store alone finds
 * and believes a backup by these.
 */
export async function verifyManifests(options: ReaderOptions, onError: OnError): Promise<{ bytes: number; objects: number }> {
  const { objects, signal } = options
  const totals = { bytes: 0, objects: 0 }
  const leaned = options.manifest.facts.leans_on.flatMap(({ id }) => options.leansOn.get(id) ?? [])
  for (const manifest of [options.manifest, ...leaned]) {
    const key = manifestKey(manifest.facts)
    const bytes = await caught(key, onError, async () => {
      const stored = await objects.get(key, null, signal)
      if (stored.equals(canonicalBytes(manifest))) return stored.length
      throw damaged(key, 'it is not the manifest that was committed')
    })
    totals.objects++
    totals.bytes += bytes ?? 0
  }
  return totals
}

/** The bytes read. */
async function checkObject(options: ReaderOptions, origin: Origin, object: ObjectFact): Promise<number> {
  const key = objectKey(origin.ref, object.name)
  const isPack = PACK_NAME.test(object.name)
  if (object.size > (isPack ? LIMITS.pack : LIMITS.head)) throw damaged(key, 'it is too large')
  const { objects, signal } = options
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

/** Keys of the packs that the contents name, none of which is opened for it but those with the contents' own pages. */
async function usedPacks({ contents, origins }: OpenedParts): Promise<Set<string>> {
  const used = new Set<string>()
  for await (const row of contents.rows()) {
    for await (const record of contents.body(row).records()) {
      if (record.kind === 'run') used.add(packKey(contents, origins, record.run))
    }
  }
  return used
}

function packKey(contents: OpenedParts['contents'], origins: readonly Origin[], { origin, pack }: Run): string {
  const of = origins[origin]
  const name = of?.packs[pack]?.name
  if (!of || !name) throw contents.fail('a run names a pack that no manifest names')
  return objectKey(of.ref, name)
}

/**
 * Every run must lie within its pack, and lengths and digests must be what the contents say. Returns the keys of the packs that are used.
 * A pack that does not open is reported, and what would depend on its directory is left out.
 */
async function followRuns({ contents, blocks, origins }: OpenedParts, report: OnError): Promise<Set<string>> {
  const used = new Set<string>()
  const bad = new Set<string>()
  for await (const row of contents.rows()) {
    const expected = { bytes: row.kind === 'tree' ? 0 : row.bytes }
    let bytes = 0
    let whole = true
    const digest = createHash('sha256')
    const ofRecords = row.kind === 'tree' ? (record: Buffer) => void digest.update(record) : undefined
    for await (const record of contents.body(row).records(undefined, ofRecords)) {
      if (record.kind === 'hole') bytes += record.length
      else if (record.kind === 'entry')
        expected.bytes += record.entry.type === 'file' && !record.entry.hardLinkTo ? record.entry.size : 0
      else {
        const { origin, pack } = record.run
        const key = packKey(contents, origins, record.run)
        used.add(key)
        const open = bad.has(key) ? undefined : await caught(key, report, () => blocks.pack(origin, pack))
        if (open) bytes += runLength(open, record.run, row.kind === 'stream' ? digest : undefined)
        else {
          bad.add(key)
          whole = false
        }
      }
    }
    if (whole && bytes !== expected.bytes) {
      throw contents.fail(`${row.kind} ${JSON.stringify(row.name)} has ${bytes} bytes where ${expected.bytes} are said`)
    }
    if (whole && digest.digest('hex') !== row.digest)
      throw contents.fail(`${row.kind} ${JSON.stringify(row.name)} is not what was stored`)
  }
  return used
}

/** `names` takes the names of its chunks. */
function runLength({ directory, opener }: OpenPack, { block, first, count }: Run, names?: Hash): number {
  if (block >= directory.blocks || first + count > directory.chunksOf(block)) throw opener.fail('a run lies outside of it')
  let bytes = 0
  for (let n = first; n < first + count; n++) {
    bytes += directory.chunkLength(block, n)
    names?.update(directory.chunkName(block, n))
  }
  return bytes
}

/** Opens random blocks: `count` of this backup's own, and `count` of those it leans on. */
export async function sampleBackup(
  { origins: all, blocks: source }: OpenedParts,
  count: number,
  onError: OnError,
): Promise<{ blocks: number }> {
  let blocks = 0
  const groups = [[0], all.map((_, n) => n).slice(1)]
  for (const origins of groups) {
    const packs = origins.flatMap((origin) => (all[origin]?.packs ?? []).map((_, pack) => ({ origin, pack })))
    for (let n = 0; n < count && packs.length > 0; n++) {
      const { origin, pack } = packs[randomInt(packs.length)] as { origin: number; pack: number }
      const of = all[origin] as Origin
      await caught(objectKey(of.ref, of.packs[pack]?.name ?? ''), onError, async () => {
        const { directory, opener } = await source.pack(origin, pack)
        const block = randomInt(directory.blocks)
        checkChunks(opener, directory, block, (await source.block(origin, pack, block)).plain)
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
