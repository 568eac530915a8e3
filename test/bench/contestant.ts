import type { Measured } from './measure.ts'

/** What is backed up: a folder (of one file, or of many), or a live database. */
export interface Input {
  readonly folder: string
  readonly database: Database | null
  /** The folder's files are a database's, of pages of this size: who can be told so is told. */
  readonly pageBytes?: number
}

export interface Database {
  /** Environment for libpq's programs. */
  readonly env: Readonly<Record<string, string>>
  readonly pgDump: string
  readonly config: unknown
}

/** Whoever takes part, with its own defaults. */
export interface Contestant {
  readonly name: string
  /** Makes a new repository in `folder` and backs the input up: the database where there is one (by pg_dump), else the folder. */
  run(input: Input, folder: string): Promise<Measured>
  /** Backs up once more into the repository that `run` made: what is there already is not stored again. */
  again?(input: Input, folder: string): Promise<Measured>
  /** Restores the folder that was backed up there last into `to`, which does not exist yet. */
  restore(input: Input, folder: string, to: string): Promise<Measured>
  readonly version: () => Promise<string>
}
