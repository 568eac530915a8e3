import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { cp, mkdir, mkdtemp, rename, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { type Catalog, openCatalog } from '../../control-plane/catalog/open.ts'
import { Secret } from '../../shared/secret.ts'
import { postgresTools, startPostgres } from './postgres.ts'

export interface TestCatalog {
  readonly catalog: Catalog
  /** The same catalog opened once more, as by another control plane; null where one process has it alone. */
  readonly another: (() => Promise<Catalog>) | null
  /** Closes it and removes what it stood on. */
  dispose(): Promise<void>
}

export interface CatalogUnderTest {
  readonly kind: 'embedded' | 'postgres'
  open(): Promise<TestCatalog>
}

/** Every store suite runs on each of these. */
export async function catalogsUnderTest(): Promise<CatalogUnderTest[]> {
  const embedded: CatalogUnderTest = { kind: 'embedded', open: openTestCatalog }
  const tools = await postgresTools(15)
  return tools === null ? [embedded] : [embedded, { kind: 'postgres', open: openServerCatalog }]
}

/** On a PostgreSQL server of its own. */
export async function openServerCatalog(): Promise<TestCatalog> {
  const server = await startPostgres(15)
  if (!server) throw new Error('PostgreSQL 15 was there a moment ago')
  const url = new URL(server.url('postgres'))
  url.password = encodeURIComponent(server.password)
  const another = () => openCatalog({ kind: 'postgres', url: new Secret(url.href) })
  const catalog = await another()
  return {
    catalog,
    another,
    dispose: async () => {
      await catalog.close()
      await server.stop()
    },
  }
}

/** An embedded catalog in a throw-away folder, copied from a migrated one so that a suite starts in half a second. */
export async function openTestCatalog(): Promise<TestCatalog> {
  const folder = await mkdtemp(path.join(tmpdir(), 'holdfast-catalog-'))
  await copyEmptyCatalog(folder)
  const catalog = await openCatalog({ kind: 'embedded', folder })
  return {
    catalog,
    another: null,
    dispose: async () => {
      await catalog.close()
      await rm(folder, { recursive: true, force: true })
    },
  }
}

/** A closed, empty catalog in an existing folder. */
export async function copyEmptyCatalog(folder: string): Promise<void> {
  await cp(await migratedFolder(), folder, { recursive: true })
}

/** Named by the migrations' content; made by a rename, so that parallel suites never see half of one. */
async function migratedFolder(): Promise<string> {
  const migrations = path.join(import.meta.dirname, '../../control-plane/catalog/migrations')
  const hash = createHash('sha256')
  for (const file of readdirSync(migrations).sort()) {
    if (file.endsWith('.sql')) hash.update(readFileSync(path.join(migrations, file)))
  }
  const folder = path.join(tmpdir(), `holdfast-catalog-template-${process.getuid?.() ?? 0}-${hash.digest('hex').slice(0, 16)}`)
  if (existsSync(folder)) return folder
  const draft = await mkdtemp(path.join(tmpdir(), 'holdfast-catalog-draft-'))
  await (await openCatalog({ kind: 'embedded', folder: draft })).close()
  try {
    await rename(draft, folder)
  } catch {
    // another suite was first: its folder is the same
    await rm(draft, { recursive: true, force: true })
  }
  await mkdir(folder, { recursive: true })
  return folder
}
