import { closeSync, existsSync, fsyncSync, openSync } from 'node:fs'
import { mkdir, rename, rm, unlink } from 'node:fs/promises'
import path from 'node:path'
import { PGlite } from '@electric-sql/pglite'
import { NodeFS } from '@electric-sql/pglite/nodefs'
import { sql } from 'drizzle-orm'
import { drizzle } from 'drizzle-orm/pglite'
import { syncFolder, writeDurably } from '../../shared/durable-file.ts'
import { asHoldfastError, HoldfastError, isHoldfastError } from '../../shared/errors.ts'
import type { Catalog, Db } from './catalog.ts'
import { lockFolder } from './folder-lock.ts'
import { migrateCatalog } from './migrate.ts'
import * as schema from './schema/schema.ts'
import { notifyIn, rowsOf } from './sql.ts'
import { syncTree } from './sync.ts'
import { translateErrors } from './translate-errors.ts'

/**
 * PGlite on a folder: `lock`, `pgdata/` and, while it is open, `in-use`. Made exclusive and durable, which it is not by
 * itself (0.5.16): it starts PostgreSQL with -F, and its file system has no fsync behind it, so that an acknowledged
 * transaction was lost in a power cut.
 */
export async function openEmbedded(folder: string): Promise<Catalog> {
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const lock = lockFolder(folder)
  let client: PGlite | undefined
  try {
    const data = path.join(folder, 'pgdata')
    const inUse = path.join(folder, 'in-use')
    const unclean = existsSync(inUse)
    if (!existsSync(data)) await initialise(folder, data)
    await writeDurably(inUse, '')
    client = await start(data)
    const db = translateErrors(drizzle(client, { schema }) as unknown as Db)
    if (unclean) await readEverything(db)
    await migrateCatalog(db)
    return catalogOn(client, db, async () => {
      await unlink(inUse)
      await syncFolder(folder)
      lock.release()
    })
  } catch (error) {
    await client?.close().catch(() => undefined)
    lock.release()
    throw isHoldfastError(error) ? error : damaged(folder, error)
  }
}

/** A first start that was interrupted leaves only a draft, which the next one throws away. */
async function initialise(folder: string, data: string): Promise<void> {
  const draft = `${data}.draft`
  await rm(draft, { recursive: true, force: true })
  await (await start(draft)).close()
  // initdb wrote in memory and the files were copied: nothing of that was synced
  await syncTree(draft)
  await rename(draft, data)
  await syncFolder(folder)
}

async function start(data: string): Promise<PGlite> {
  const client = new PGlite({
    fs: new SyncedNodeFS(data),
    relaxedDurability: false,
    startParams: [
      ...PGlite.defaultStartParams.filter((parameter) => parameter !== '-F'),
      ...['fsync=on', 'wal_sync_method=fsync', 'synchronous_commit=on', 'full_page_writes=on'].flatMap((set) => ['-c', set]),
    ],
  })
  await client.waitReady
  return client
}

interface EmscriptenStream {
  readonly nfd?: number | null
  readonly node: unknown
}

interface NodeFileSystem {
  stream_ops: { fsync?: (stream: EmscriptenStream) => number }
  realPath(node: unknown): string
}

/** Emscripten's NODEFS answers fsync(2) with success and does nothing; here it reaches the kernel. */
class SyncedNodeFS extends NodeFS {
  override async init(...args: Parameters<NodeFS['init']>) {
    const { emscriptenOpts } = await super.init(...args)
    const install = (mod: { NODEFS: unknown }): void => {
      const files = mod.NODEFS as NodeFileSystem
      files.stream_ops.fsync = (stream) => {
        if (typeof stream.nfd === 'number') fsyncSync(stream.nfd)
        else fsyncAt(files.realPath(stream.node))
        return 0
      }
    }
    return { emscriptenOpts: { ...emscriptenOpts, preRun: [...(emscriptenOpts.preRun ?? []), install] } }
  }
}

function fsyncAt(file: string): void {
  const fd = openSync(file, 'r')
  try {
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}

function catalogOn(client: PGlite, db: Db, afterClose: () => Promise<void>): Catalog {
  return {
    kind: 'embedded',
    db,
    transaction: (fn) => db.transaction(fn),
    notify: (channel, payload) => notifyIn(db, channel, payload),
    listen: (channel, fn) => client.listen(channel, fn),
    close: async () => {
      await client.close()
      await afterClose()
    },
  }
}

/** After a start that was not a clean one: every page of every table is read, and PostgreSQL checks its checksum. */
async function readEverything(db: Db): Promise<void> {
  const tables = await rowsOf<{ name: string }>(
    db,
    sql`select format('%I.%I', schemaname, tablename) as name from pg_tables where schemaname in ('public', 'holdfast_schema')`,
  )
  for (const { name } of tables) await db.execute(sql.raw(`select count(t) from ${name} t`))
}

function damaged(folder: string, error: unknown): HoldfastError {
  return new HoldfastError('catalog_damaged', `the catalog in ${folder} cannot be opened: ${asHoldfastError(error).message}`, {
    hint: 'Start with --rebuild-catalog: it keeps the damaged folder aside and reads every manifest and the self-backup again.',
    cause: error,
  })
}
