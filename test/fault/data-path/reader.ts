import type { Manifest } from '../../../shared/manifest/manifest.ts'
import { openReader } from '../../../shared/repository/reader.ts'
import type { BackupReader } from '../../../shared/repository/repository.ts'
import type { Secret } from '../../../shared/secret.ts'
import type { DataPathWorld } from './world.ts'

/** The product's reader of a committed backup, past agent and line: from the folder of the store itself. */
export async function readerOf({ controlPlane, target }: DataPathWorld, manifest: Manifest): Promise<BackupReader> {
  const leansOn = new Map(manifest.facts.leans_on.map(({ id }) => [id, controlPlane.of(id).manifest]))
  const keys = new Map<string, Secret<Buffer>>()
  for (const one of [manifest, ...leansOn.values()])
    for (const { attempt, dataKey } of await controlPlane.keys(one)) keys.set(`${one.facts.id}/${attempt}`, dataKey)
  return openReader({
    manifest,
    leansOn,
    keys: (id, attempt) => keys.get(`${id}/${attempt}`),
    objects: { get: (key, range, signal) => target.get(key, { ...range, signal }) },
    signal: new AbortController().signal,
  })
}
