import { randomBytes } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { expect, test } from 'vitest'
import { systemClock } from '../../shared/clock.ts'
import { isHoldfastError } from '../../shared/errors.ts'
import { sha256 } from '../../shared/storage/contract.ts'
import { openLocal } from '../../shared/storage/local/target.ts'
import { fragileDisk } from '../harness/power-cut.ts'
import { seeded } from '../harness/seeded.ts'
import { waitFor } from '../harness/wait.ts'

/** The power goes while objects are written: what was confirmed is there whole, what was not is whole or absent. */

const open = (folder: string) => openLocal(path.join(folder, 'store'), { name: 'primary', clock: systemClock, create: true })

for (const seed of [1, 2, 3]) {
  test(`an object is whole or absent after a power cut, and what was confirmed is there (seed ${seed})`, async (context) => {
    const disk = await fragileDisk()
    if (!disk) return context.skip('mounting a file system needs root')
    context.onTestFinished(() => disk.stop())
    const before = await open(disk.path)
    const random = seeded(seed)
    const confirmed = new Map<string, Buffer>()
    const tried = new Map<string, Buffer>()
    const cutAfter = 20 + Math.floor(random() * 40)
    const writer = async (number: number) => {
      for (let i = 0; ; i++) {
        const key = `db${number}/app/${i % 3}/packs/${i}`
        const body = randomBytes(1 + Math.floor(random() * 300_000))
        tried.set(key, body)
        await before.put(key, body)
        confirmed.set(key, body)
      }
    }
    const writers = [1, 2, 3, 4].map((number) => writer(number).catch((error) => error))
    await waitFor(`${cutAfter} objects to be confirmed`, () => confirmed.size >= cutAfter, { everyMs: 1 })
    await writeFile(path.join(disk.path, 'never-synced'), 'x')
    disk.cut()
    for (const error of await Promise.all(writers)) expect(isHoldfastError(error)).toBe(true)
    const known = new Map(confirmed)
    await disk.comeBack()

    const after = await open(disk.path)
    for (const [key, body] of tried) {
      const head = await after.head(key)
      if (known.has(key)) expect(head, key).not.toBeNull()
      if (head) expect(head.sha256, key).toEqual(sha256(body))
      if (head) expect((await after.get(key)).equals(body), key).toBe(true)
    }
    // proof that the cut was one: the same disk lost what nobody synced
    expect(await readFile(path.join(disk.path, 'never-synced'), 'utf8').catch(() => '')).toBe('')
  })
}

test('the very last object that was confirmed is there, and the last that was removed is not', async (context) => {
  const disk = await fragileDisk()
  if (!disk) return context.skip('mounting a file system needs root')
  context.onTestFinished(() => disk.stop())
  const body = randomBytes(100_000)
  const first = await open(disk.path)
  await first.put('db1/app/one/keys/1', body)
  // nothing else is written or synced after it: its own syncs have to be enough
  disk.cut()
  await disk.comeBack()
  const second = await open(disk.path)
  expect(await second.get('db1/app/one/keys/1')).toEqual(body)
  await second.remove('db1/app/one/keys/1')
  disk.cut()
  await disk.comeBack()
  expect(await (await open(disk.path)).head('db1/app/one/keys/1')).toBeNull()
})
