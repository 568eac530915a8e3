import { existsSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import type { Manifest } from '../../../shared/manifest/manifest.ts'
import type { Served } from './target-server.ts'

/** Where a job's objects go: to the server of a local target, which runs already, or to a bucket (AWS's variables name its credentials). */
export type Place =
  | { readonly kind: 'local'; readonly folder: string; readonly served: Served }
  | { readonly kind: 's3'; readonly bucket: string; readonly prefix: string; readonly endpoint: string; readonly region: string }

/** What the job's process is told: a JSON file, its only argument. */
export interface Task {
  readonly engine: string
  readonly config: unknown
  readonly place: Place
  /** File with what was backed up there before, oldest first (`Made`). A backup leans on the last one, and a restore is of it. */
  readonly made: string
  /** Folder of the lists of known chunks. */
  readonly known: string
  /** Of a tree: fixed pages in place of the engine's own chunks, as an engine for a database's files would declare them. */
  readonly pageBytes?: number
  /** What is restored; everything when empty. */
  readonly parts?: readonly string[]
}

/** A backup, with what opens it. */
export interface Made {
  readonly manifest: Manifest
  readonly manifestSha256: string
  readonly dataKey: string
}

/** What a job's process answers on its standard output. */
export interface JobAnswer {
  /** Bodies of objects that came over the line. */
  readonly receivedBytes: number
  /** Of the manifests that are read besides, by way of the control plane. */
  readonly manifestBytes: number
}

export async function readMade(file: string): Promise<Made[]> {
  return existsSync(file) ? (JSON.parse(await readFile(file, 'utf8')) as Made[]) : []
}

export async function addMade(file: string, made: readonly Made[], more: Made): Promise<void> {
  await writeFile(file, JSON.stringify([...made, more]))
}
