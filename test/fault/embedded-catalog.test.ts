import { existsSync } from 'node:fs'
import { mkdir, rm } from 'node:fs/promises'
import path from 'node:path'
import { sql } from 'drizzle-orm'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openCatalog } from '../../control-plane/catalog/open.ts'
import { rowsOf } from '../../control-plane/catalog/sql.ts'
import { available } from '../harness/cache.ts'
import { runCommand } from '../harness/commands.ts'
import { apt, onPath } from '../harness/debian.ts'
import { type ThrowAwayFolder, throwAwayFolder } from '../harness/folders.ts'
import { type StartedProcess, startProcess } from '../harness/processes.ts'
import { waitFor } from '../harness/wait.ts'

const writer = path.join(import.meta.dirname, 'embedded-writer.ts')

async function startWriter(folder: string): Promise<StartedProcess> {
  return await startProcess(process.execPath, [writer, folder], {
    as: 'self',
    ready: (started) => started.stdout().includes('open\n'),
  })
}

/** The last number that the writer was told is committed. */
const acknowledged = (process: StartedProcess): number =>
  Number(process.stdout().slice(0, process.stdout().lastIndexOf('\n')).split('\n').at(-1)) || 0

async function written(folder: string): Promise<number[]> {
  const catalog = await openCatalog({ kind: 'embedded', folder })
  try {
    const rows = await rowsOf<{ n: number }>(catalog.db, sql`select n from written order by n`)
    return rows.map(({ n }) => n)
  } finally {
    await catalog.close()
  }
}

/** 1, 2, 3 ... without a gap, at least up to what was acknowledged. */
function expectAll(numbers: number[], atLeast: number): void {
  expect(numbers).toEqual(numbers.map((_, index) => index + 1))
  expect(numbers.length).toBeGreaterThanOrEqual(atLeast)
}

describe('kill -9 under load', () => {
  let folder: ThrowAwayFolder
  beforeAll(async () => {
    folder = await throwAwayFolder()
  })
  afterAll(() => folder.remove())

  test('loses no transaction that was acknowledged, and the folder is free again at once', async () => {
    const catalog = path.join(folder.path, 'catalog')
    for (let round = 0; round < 2; round++) {
      const process = await startWriter(catalog)
      await expect(openCatalog({ kind: 'embedded', folder: catalog })).rejects.toMatchObject({ code: 'catalog_locked' })
      await waitFor('some rows', () => acknowledged(process) >= (round + 1) * 60, { timeoutMs: 120_000 })
      process.kill('SIGKILL')
      await process.exited
      expectAll(await written(catalog), acknowledged(process))
    }
  })
})

/** A file system of its own whose power can be cut: what was not synced is gone at the next mount. */
const powerCuts = await available(
  'power cuts (loop-mounted ext4, xfs_io)',
  'build',
  () => process.getuid?.() === 0 && onPath('xfs_io') !== null && onPath('mkfs.ext4') !== null,
  async () => {
    if (process.getuid?.() !== 0) throw new Error('mounting needs root')
    await apt(['xfsprogs', 'e2fsprogs'])
    return true
  },
)

describe.skipIf(powerCuts === null)('power cut under load', () => {
  let folder: ThrowAwayFolder
  let mounted = false
  const at = (name: string) => path.join(folder.path, name)
  const mount = async () => {
    await runCommand('mount', ['-o', 'loop', at('disk'), at('mount')])
    mounted = true
  }
  const unmount = async () => {
    if (mounted) await runCommand('umount', [at('mount')])
    mounted = false
  }
  beforeAll(async () => {
    folder = await throwAwayFolder()
    await mkdir(at('mount'))
    await runCommand('truncate', ['-s', '600M', at('disk')])
    await runCommand('mkfs.ext4', ['-q', '-F', at('disk')])
    await mount()
  })
  afterAll(async () => {
    await unmount()
    await folder.remove()
  })

  test('loses no transaction that was acknowledged', async () => {
    const catalog = path.join(at('mount'), 'catalog')
    for (let round = 0; round < 2; round++) {
      const process = await startWriter(catalog)
      await waitFor('some rows', () => acknowledged(process) >= (round + 1) * 40, { timeoutMs: 120_000 })
      const known = acknowledged(process)
      await runCommand('xfs_io', ['-x', '-c', 'shutdown', at('mount')])
      await process.stop({ signal: 'SIGKILL' })
      await unmount()
      await mount()
      expectAll(await written(catalog), known)
    }
  })

  test('during the very first start leaves a catalog that starts', async () => {
    const catalog = path.join(at('mount'), 'first')
    const process = await startProcess(globalThis.process.execPath, [writer, catalog], { as: 'self' })
    await waitFor('a half-made catalog', () => existsSync(path.join(catalog, 'pgdata.draft', 'base')))
    await runCommand('xfs_io', ['-x', '-c', 'shutdown', at('mount')])
    await process.stop({ signal: 'SIGKILL' })
    await unmount()
    await mount()
    const opened = await openCatalog({ kind: 'embedded', folder: catalog })
    const count = await rowsOf(opened.db, sql`select count(*)::int as n from agents`).finally(() => opened.close())
    expect(count).toEqual([{ n: 0 }])
    await rm(catalog, { recursive: true })
  })
})
