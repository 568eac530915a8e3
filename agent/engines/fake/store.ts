import { randomUUID } from 'node:crypto'
import { readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { HoldfastError } from '../../../shared/errors.ts'
import type { Place } from '../engine.ts'
import type { FakeConfig } from './config.ts'

/** Parts of a place; what is counted is lines. */
export type Parts = Map<string, Buffer>

export function placeName({ config, targetName }: Place<FakeConfig>): string {
  return targetName ?? config.place
}

export function placeFile(place: Place<FakeConfig>): string {
  const name = placeName(place)
  if (name === '' || name.length > 60 || !name.isWellFormed()) {
    throw new HoldfastError('invalid_name', `place ${JSON.stringify(name.slice(0, 100))} is not allowed`, {
      hint: 'Use 1 to 60 characters.',
    })
  }
  return path.join(place.config.folder, `${encodeURIComponent(name)}.json`)
}

export async function placeExists(place: Place<FakeConfig>): Promise<boolean> {
  const file = placeFile(place)
  return stat(file).then(
    () => true,
    () => false,
  )
}

export async function readPlace(place: Place<FakeConfig>): Promise<Parts> {
  try {
    const object: Record<string, string> = JSON.parse(await readFile(placeFile(place), 'utf8'))
    return new Map(Object.entries(object).map(([part, text]) => [part, Buffer.from(text, 'base64')]))
  } catch (cause) {
    if (cause instanceof HoldfastError) throw cause
    throw new HoldfastError('source_missing', `place ${JSON.stringify(placeName(place))} cannot be read`, {
      hint: 'Make the place, or name another one.',
      cause,
    })
  }
}

/** Writes beside and swaps; `before` is asked right before the swap. */
export async function writePlace(place: Place<FakeConfig>, parts: Parts, before: () => void = () => undefined): Promise<void> {
  const file = placeFile(place)
  const draft = `${file}.${randomUUID()}`
  const object = Object.fromEntries([...parts].map(([part, bytes]) => [part, bytes.toString('base64')]))
  try {
    await writeFile(draft, JSON.stringify(object))
    before()
    await rename(draft, file)
  } finally {
    await rm(draft, { force: true })
  }
}

export async function removePlace(place: Place<FakeConfig>): Promise<void> {
  await rm(placeFile(place), { force: true })
}

export function countLines(bytes: Buffer): number {
  let lines = 0
  for (const byte of bytes) if (byte === 10) lines++
  return lines
}
