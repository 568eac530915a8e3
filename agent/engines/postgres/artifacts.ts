import { z } from 'zod'
import type { ArtifactInfo, ArtifactMeta, BackupSource, Chunking } from '../../../shared/artifacts.ts'
import { HoldfastError } from '../../../shared/errors.ts'
import { readJson } from '../../../shared/json.ts'

/**
 * The artifacts of a backup, by the fact `kind`. The format of each is that of PostgreSQL's own tools, so that they can be
 * used without this program: COPY text, archives of pg_dump -Fc, SQL of pg_dumpall.
 */
export const KINDS = [
  'database',
  'globals',
  'definitions',
  'rows',
  'sequences',
  'large-objects',
  'dependencies',
  'objects',
] as const
export type Kind = (typeof KINDS)[number]

/** Small chunks: 64 KiB finds 9 times more duplicates in a changed dump than 1 MiB. */
export const CHUNKING: Chunking = { kind: 'content-defined', averageBytes: 64 * 1024 }

export function artifact(kind: Kind, name: string = kind, facts: Record<string, string> = {}): ArtifactMeta {
  return { name, chunking: CHUNKING, facts: { kind, ...facts } }
}

const name = z.string().min(1).max(1000)

/** Facts of the kind `rows`. */
export const rowsFactsSchema = z.object({
  schema: name,
  table: name,
  columns: z.string().transform((text, context) => {
    const parsed = readJson(text, z.array(name).max(1664))
    if (parsed.success) return parsed.data
    context.addIssue({ code: 'custom', message: 'is no list of columns' })
    return z.NEVER
  }),
  /** Of the bytes; PostgreSQL's name. */
  encoding: z.string().regex(/^[A-Za-z0-9_]{1,30}$/),
  load_schema: name,
  load_table: name,
})
export type RowsFacts = z.infer<typeof rowsFactsSchema>

const acl = z.object({
  grantee: z.string().max(300).nullable(),
  privilege: z.enum(['CREATE', 'CONNECT', 'TEMPORARY']),
  grantable: z.boolean(),
})

/** The artifact `database`: what CREATE DATABASE and the statements after it need, which no archive restores into another name. */
export const databaseSchema = z.object({
  server_version: z.string().max(50),
  server_major: z.number().int().positive(),
  name,
  owner: name,
  encoding: z.string().max(50),
  collate: z.string().max(500),
  ctype: z.string().max(500),
  provider: z.enum(['libc', 'icu', 'builtin']),
  locale: z.string().max(500).nullable(),
  icu_rules: z.string().max(100_000).nullable(),
  connection_limit: z.number().int(),
  comment: z.string().max(100_000).nullable(),
  /** Null: PostgreSQL's default. */
  acl: z.array(acl).max(100_000).nullable(),
  settings: z.array(z.object({ role: name.nullable(), setting: z.string().max(100_000) })).max(100_000),
  /** Owners, grantees and others that the definitions name. */
  roles: z.array(name).max(1_000_000),
  extensions: z.array(z.object({ name, version: z.string().max(300) })).max(100_000),
  /** Besides the database's own. */
  tablespaces: z.array(name).max(10_000),
  has_public: z.boolean(),
  /** Parts that were chosen for the backup; null: all. */
  chosen: z.array(name).max(10_000).nullable(),
  /** Tables whose rows were left out: OIDs of the source. */
  left_out: z.array(z.number().int()).max(1_000_000),
})
export type DatabaseFacts = z.infer<typeof databaseSchema>

export interface RowsArtifact extends RowsFacts {
  readonly artifact: string
  readonly part: string
  readonly bytes: number
}

/** What a backup holds, read and checked: a backup is untrusted until it has been. */
export interface Layout {
  readonly database: DatabaseFacts
  readonly rows: readonly RowsArtifact[]
  readonly kinds: ReadonlySet<Kind>
  readonly bytes: number
}

export async function readLayout(source: BackupSource): Promise<Layout> {
  const rows: RowsArtifact[] = []
  const kinds = new Set<Kind>()
  let bytes = 0
  for await (const info of source.artifacts()) {
    const kind = kindOf(info)
    kinds.add(kind)
    bytes += info.bytes
    if (kind === 'rows') rows.push(rowsArtifact(info))
  }
  for (const needed of ['database', 'definitions'] as const) {
    if (!kinds.has(needed)) throw invalid(`has no artifact ${needed}`)
  }
  const parsed = readJson(await collect(source.openStream('database'), 16 * 1024 * 1024), databaseSchema)
  if (!parsed.success) throw invalid('does not describe its database', parsed.error)
  return { database: parsed.data, rows, kinds, bytes }
}

/** A small stream as a whole; a larger one throws. */
export async function collect(stream: AsyncIterable<Buffer>, limit: number): Promise<Buffer> {
  const pieces: Buffer[] = []
  let size = 0
  for await (const piece of stream) {
    size += piece.length
    if (size > limit) throw invalid(`has an artifact larger than ${limit} bytes that is read as a whole`)
    // a source may use its buffers again
    pieces.push(Buffer.from(piece))
  }
  return Buffer.concat(pieces)
}

export function invalid(what: string, cause?: unknown): HoldfastError {
  return new HoldfastError('backup_invalid', `the backup ${what}`, {
    hint: 'It was made by another engine or version, or tampered with: verify it, and restore another one.',
    cause,
  })
}

function kindOf(info: ArtifactInfo): Kind {
  const kind = KINDS.find((candidate) => candidate === info.facts.kind)
  if (kind && info.kind === 'stream') return kind
  throw invalid(`has an artifact that this engine does not know: ${JSON.stringify(info.name.slice(0, 200))}`)
}

function rowsArtifact(info: ArtifactInfo): RowsArtifact {
  const facts = rowsFactsSchema.safeParse(info.facts)
  if (!facts.success || info.part === undefined)
    throw invalid(`does not say what ${JSON.stringify(info.name.slice(0, 200))} is`, facts.error)
  return { ...facts.data, artifact: info.name, part: info.part, bytes: info.bytes }
}
