import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { cp, mkdir, mkdtemp, rename, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { type Catalog, openCatalog } from '../../control-plane/catalog/open.ts'

export interface TestCatalog {
  readonly catalog: Catalog
  /** Closes it and removes what it stood on. */
  dispose(): Promise<void>
}

export interface CatalogUnderTest {
  readonly kind: 'embedded' | 'postgres'
  open(): Promise<TestCatalog>
}

/** Every store suite runs on each of these. */
export async function catalogsUnderTest(): Promise<CatalogUnderTest[]> {
  return [{ kind: 'embedded', open: openTestCatalog }]
}

/** An embedded catalog in a throw-away folder, copied from a migrated one so that a suite starts in half a second. */
export async function openTestCatalog(): Promise<TestCatalog> {
  const folder = await mkdtemp(path.join(tmpdir(), 'holdfast-catalog-'))
  await cp(await migratedFolder(), folder, { recursive: true })
  const catalog = await openCatalog({ kind: 'embedded', folder })
  return {
    catalog,
    dispose: async () => {
      await catalog.close()
      await rm(folder, { recursive: true, force: true })
    },
  }
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
