import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { available } from '../../../test/harness/cache.ts'
import { runCommand } from '../../../test/harness/commands.ts'
import { apt, onPath } from '../../../test/harness/debian.ts'
import { makeOddTree } from './odd-tree.fixture.ts'
import { Workshop } from './tree.fixture.ts'

const there = () => onPath('rsync') !== null && onPath('setfacl') !== null
const rsync = await available('rsync, acl', 'build', there, async () => {
  await apt(['rsync', 'acl', 'attr'])
  return onPath('rsync')
})

describe.skipIf(!rsync)('judged by rsync', () => {
  let shop: Workshop
  beforeEach(async () => {
    shop = await Workshop.open()
  })
  afterEach(() => shop.dispose())

  /** What rsync would change on the second side to make it the first; nanoseconds count. */
  const differences = (one: string, other: string) =>
    runCommand(rsync ?? '', ['-aniHAX', '--checksum', '--delete', '--modify-window=-1', `${one}/`, `${other}/`])

  test('a restored tree is the one that was backed up: rsync -aniHAX --checksum prints nothing', async () => {
    await makeOddTree(shop.root)
    await runCommand('setfacl', ['-m', 'u:4321:rwx,d:g:99:r', shop.at('docs')])
    const { source, findings } = await shop.take()
    expect(findings).toEqual([])
    expect(await shop.restore(source, 'copy')).toEqual([])
    expect(await differences(shop.root, shop.beside('copy'))).toBe('')
    // the judge is not blind
    rmSync(shop.beside('copy', 'special', 'fifo'))
    writeFileSync(shop.beside('copy', 'docs', 'secret'), 'y')
    expect((await differences(shop.root, shop.beside('copy'))).trim().split('\n').length).toBeGreaterThanOrEqual(2)
  })

  test('a folder whose default access list its children would inherit does not leave it on a restored tree', async () => {
    await makeOddTree(shop.root)
    await runCommand('setfacl', ['-m', 'd:u:4321:rwx', shop.folder])
    const { source } = await shop.take()
    await shop.restore(source, 'copy')
    expect(await differences(shop.root, shop.beside('copy'))).toBe('')
  })

  test('20,000 small files', { timeout: 300_000 }, async () => {
    await shop.dispose()
    // of the engine's speed, not of the disk's
    shop = await Workshop.open(existsSync('/dev/shm') ? '/dev/shm' : undefined)
    mkdirSync(shop.root)
    for (let folder = 0; folder < 200; folder++) {
      mkdirSync(shop.at(`folder-${folder}`))
      for (let file = 0; file < 100; file++)
        writeFileSync(shop.at(`folder-${folder}`, `file-${file}`), `content of ${folder} ${file}\n`)
    }
    const first = await shop.take()
    expect(first.fingerprint.counts).toEqual({ files: 20_000, folders: 201, links: 0, special: 0 })
    await shop.restore(first.source, 'copy')
    expect(await differences(shop.root, shop.beside('copy'))).toBe('')
  })
})
