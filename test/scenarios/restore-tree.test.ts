import { createHash } from 'node:crypto'
import { appendFile, mkdir, rename, rm, utimes, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { makeOddTree } from '../../agent/engines/files/odd-tree.fixture.ts'
import type { BackupDetail, RestoreDetail } from '../../shared/results.ts'
import { runCommand } from '../harness/commands.ts'
import { debianProgram } from '../harness/debian.ts'
import { type StoreKind, standingOnTwoStores } from '../harness/two-stores.ts'

/** A tree of 20,000 files with everything that a file system can hold, restored by another host under another name. The judge is rsync. */

const FILES = 20_000
const rsync = await debianProgram('rsync', ['rsync'])
const stores = await standingOnTwoStores()
const { holdfast } = stores
let tree: string
let elsewhere: string

beforeAll(async () => {
  tree = path.join(holdfast.folder.path, 'db1', 'tree')
  elsewhere = path.join(holdfast.folder.path, 'db2')
  await mkdir(path.dirname(tree))
  await makeOddTree(tree)
  await makeFiles(path.join(tree, 'many'))
  await mkdir(path.join(elsewhere, 'own'), { recursive: true })
  const source = { engine: 'files', path: tree }
  await holdfast.addAgent('db1', { sources: { 'tree-local': source, 'tree-s3': source } })
  await holdfast.addAgent('db2', {
    restores_from: ['*'],
    sources: { own: { engine: 'files', path: path.join(elsewhere, 'own') } },
  })
})

/** Small files, each with content of its own, in 200 folders. */
async function makeFiles(folder: string): Promise<void> {
  for (let from = 0; from < FILES; from += 100) {
    const sub = path.join(folder, `${from / 100}`)
    await mkdir(sub, { recursive: true })
    const names = Array.from({ length: 100 }, (_, n) => from + n)
    await Promise.all(names.map((n) => writeFile(path.join(sub, `file ${n}`), contentOf(n))))
  }
}

const contentOf = (n: number): string =>
  createHash('sha256')
    .update(`${n}`)
    .digest('hex')
    .repeat(n % 40)

/** What rsync would do to make `copy` like the tree, by content, links, lists of rights and attributes; empty: nothing. */
function differences(copy: string): Promise<string> {
  return runCommand(rsync ?? '', ['-aniHAX', '--checksum', '--delete', `${tree}/`, `${copy}/`])
}

describe.skipIf(rsync === null).each<StoreKind>(['local', 's3'])('a tree of 20,000 files, on a %s target', (kind) => {
  const target = (name: string) => ({ name: `db2/${kind}-${name}`, path: path.join(elsewhere, `${kind}-${name}`) })

  it.skipIf(kind === 's3' && stores.s3 === null)(
    'comes back on another host under another name, full and incremental',
    async () => {
      const { operator } = holdfast
      const full = await operator.backUp(`db1/tree-${kind}`, 'full')
      expect(full).toMatchObject({ type: 'full', valid: true, leans_on: [] })
      expect(full.total_count).toBeGreaterThan(FILES)
      const first = target('full')
      expect(await operator.restore(full.id, { target: first.name })).toMatchObject({ agent: 'db2', detail: { checked: true } })
      expect(await differences(first.path)).toBe('')

      const read = await change(kind)
      // the judge sees a change, so its silence means something
      expect(await differences(first.path)).not.toBe('')
      const next = await operator.backUp(`db1/tree-${kind}`, 'incremental')
      expect(next).toMatchObject({ type: 'incremental', valid: true, leans_on: [full.id] })
      expect((next.job.detail as BackupDetail).read_bytes).toBe(read)
      expect(next.stored_bytes).toBeLessThan((full.stored_bytes ?? 0) / 2)
      const second = target('incremental')
      const anew = await operator.restore(next.id, { target: second.name })
      expect(await differences(second.path)).toBe('')
      // a restore over the older copy makes that the same, what the backup does not have being gone
      const over = await operator.restore(next.id, { target: first.name, overwrite_existing: true })
      expect(await differences(first.path)).toBe('')
      const { read_bytes: fetched, skipped_bytes: found, written_bytes: written } = over.detail as RestoreDetail
      expect(found).toBeGreaterThan(written * 0.9)
      // of files so small, what says where they are and what they are called is most of it
      expect(fetched).toBeLessThan((anew.detail as RestoreDetail).read_bytes)
      expect(anew.detail).toMatchObject({ skipped_bytes: 0 })
    },
  )
})

/** Changes, adds, renames and removes a few; gives how many bytes are new to a reader. */
async function change(kind: StoreKind): Promise<number> {
  const many = path.join(tree, 'many')
  await appendFile(path.join(many, '3', 'file 301'), kind)
  await writeFile(path.join(many, `new by ${kind}`), 'new')
  const index = kind === 'local' ? 7 : 8
  await rename(path.join(many, `${index}`, `file ${index * 100 + 1}`), path.join(many, `moved by ${kind}`))
  await rm(path.join(many, `${index}`, `file ${index * 100 + 2}`))
  await utimes(path.join(many, `${index}`), 1_000_000, 1_000_000)
  const grown = contentOf(301).length + (kind === 'local' ? kind.length : 'local'.length + kind.length)
  return grown + 'new'.length + contentOf(index * 100 + 1).length
}
