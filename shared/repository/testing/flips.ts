import { isHoldfastError } from '../../errors.ts'
import { contentsName, indexName, manifestKey, objectKey } from '../../manifest/layout.ts'
import type { Manifest } from '../../manifest/manifest.ts'
import { verifyManifest } from '../../manifest/verify.ts'
import { sha256 } from '../format.ts'
import { openIndex } from '../index-object.ts'
import { openDataKeys } from '../keys.ts'
import { openReader } from '../reader.ts'
import type { ObjectError, ReaderOptions } from '../repository.ts'
import { verifyManifests, verifyStored } from '../verify.ts'
import type { TestFleet } from './fleet.ts'

/** Flipped bits: what verify says of them, and what comes of those who read all the same. */

export interface Flip {
  readonly key: string
  readonly bit: number
}

/** A backup in a fleet's memory, with what it needs. */
export interface FlipSubject {
  readonly fleet: TestFleet
  readonly manifest: Manifest
  readonly options: ReaderOptions
  /** Keys of every object that verify reads for it. */
  readonly keys: readonly string[]
  /** What a restore gave while nothing was damaged: a hash for each piece. */
  readonly restored: readonly string[]
}

export async function flipSubject(fleet: TestFleet, manifest: Manifest): Promise<FlipSubject> {
  const options = await fleet.readerOptions(manifest)
  const leaned = [...options.leansOn.values()]
  const keys = [manifest, ...leaned].flatMap((one) => [
    manifestKey(one.facts),
    ...one.facts.objects
      .filter(({ name }) => one === manifest || /^(packs|keys)\//.test(name))
      .map(({ name }) => objectKey(one.facts, name)),
  ])
  const restored: string[] = []
  await restore(options, (piece) => void restored.push(piece))
  return { fleet, manifest, options, keys, restored }
}

export const bytesOf = ({ fleet }: FlipSubject, key: string): Buffer => fleet.objects.objects.get(key) as Buffer

/** Where they lie, and back again whatever happens: a copy of a pack for each flip would cost more than reading it. */
export async function withFlips<T>(subject: FlipSubject, flips: readonly Flip[], work: () => Promise<T>): Promise<T> {
  const turn = () => {
    for (const { key, bit } of flips) (bytesOf(subject, key)[bit >> 3] as number) ^= 1 << (bit & 7)
  }
  turn()
  try {
    return await work()
  } finally {
    turn()
  }
}

/** Why these flips were not found by verify, each under the name of its object and no other; empty when they were. */
export async function missedByVerify({ options }: FlipSubject, flips: readonly Flip[]): Promise<string[]> {
  const errors: ObjectError[] = []
  try {
    for (const check of [verifyManifests, verifyStored]) await check(options, (error) => errors.push(error))
  } catch (error) {
    return [`${named(flips)}: verify threw ${String(error)}`]
  }
  const found = errors.map(({ code, key }) => `${code} ${key}`).sort()
  const expected = flips.map(({ key }) => `object_damaged ${key}`).sort()
  return found.join() === expected.join() ? [] : [`${named(flips)}: verify found ${found.join(', ') || 'nothing'}`]
}

export type Outcome = 'refused' | 'harmless'

/**
 * Reads the flipped object as a restore (or, its index, an agent) does, without the whole object's hash where a reader has none: a typed error that
 * names it, or everything as it was. Throws what is neither.
 */
export async function readFlipped(subject: FlipSubject, flip: Flip): Promise<Outcome> {
  const { fleet, options } = subject
  const of = [subject.manifest, ...options.leansOn.values()].find(({ facts }) => flip.key.startsWith(`${objectKey(facts, '')}`))
  if (!of) throw new Error(`${flip.key} is of no backup`)
  const { facts } = of
  const bytes = bytesOf(subject, flip.key)
  const name = flip.key.slice(objectKey(facts, '').length)
  const sources: Record<string, () => Promise<unknown> | unknown> = {
    'manifest.json': () => verifyManifest(bytes, { verifyingKey: fleet.verifyingKey }, flip.key, facts),
    [indexName(facts.attempt)]: () => openIndex(bytes, facts, facts.attempt, [fleet.agentIdentity]),
    [contentsName(facts.attempt)]: () => openReader(options),
  }
  if (name.startsWith('keys/')) return await readKeys(subject, flip, name)
  const given: string[] = []
  const read = sources[name] ?? (() => restore(options, (piece) => void given.push(piece)))
  const outcome = await refusedOr(flip.key, async () => void (await read()))
  if (outcome !== 'refused' && sources[name]) throw new Error(`${named([flip])}: was accepted`)
  const wrong = given.findIndex((piece, n) => piece !== subject.restored[n])
  if (wrong >= 0) throw new Error(`${named([flip])}: piece ${wrong} of the restore is another`)
  if (outcome === 'harmless' && given.length !== subject.restored.length) throw new Error(`${named([flip])}: restored in part`)
  return outcome
}

/** The last bits of a line of base 64 may stand for nothing: what opens has to be the same keys. */
async function readKeys({ fleet, options, manifest }: FlipSubject, { key, bit }: Flip, name: string): Promise<Outcome> {
  return await refusedOr(key, async () => {
    const opened = await openDataKeys(fleet.objects.objects.get(key) as Buffer, [fleet.identity], key)
    const id = key.split('/')[2] as string
    for (const { attempt, dataKey } of opened.keys) {
      if (!options.keys(id, attempt)?.reveal().equals(dataKey.reveal()))
        throw new Error(`bit ${bit} of ${name} of ${manifest.facts.id}: other keys`)
    }
  })
}

const TYPED = ['object_damaged', 'key_missing', 'manifest_forged', 'format_unknown']

async function refusedOr(key: string, work: () => Promise<void>): Promise<Outcome> {
  try {
    await work()
    return 'harmless'
  } catch (error) {
    if (!isHoldfastError(error) || !TYPED.includes(error.code)) throw error
    const about = String(error.context?.key ?? error.message)
    if (about === key || about.includes(key)) return 'refused'
    throw new Error(`${key} was flipped, and the error names ${about}`, { cause: error })
  }
}

async function restore(options: ReaderOptions, give: (piece: string) => void): Promise<void> {
  const reader = await openReader(options)
  for await (const { kind, name } of reader.artifacts()) {
    give(`${kind} ${name}`)
    if (kind === 'stream') {
      for await (const part of reader.openStream(name)) give(sha256(part).toString('hex'))
      continue
    }
    for await (const { read, ...entry } of reader.openTree(name)) {
      give(JSON.stringify(entry, (_key, value) => (typeof value === 'bigint' ? String(value) : value)))
      for await (const { offset, bytes } of read?.() ?? []) give(`${offset} ${sha256(bytes).toString('hex')}`)
    }
  }
}

const named = (flips: readonly Flip[]): string => flips.map(({ key, bit }) => `${key} bit ${bit}`).join(', ')
