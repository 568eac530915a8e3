import { existsSync, readdirSync, readlinkSync, statSync } from 'node:fs'
import path from 'node:path'
import { beforeAll, expect, test, vi } from 'vitest'
import { type BlockCodec, CodecThreads, codecThreads } from './codec-threads.ts'
import { pieces, seededBytes } from './testing/content.ts'
import { TestFleet } from './testing/fleet.ts'
import { openWriter } from './writer.ts'

/** The end of a backup: what is sent when, and what a failure leaves. */

const chunking = { kind: 'content-defined', averageBytes: 4096 } as const
const NOTHING = { counts: {}, facts: {} }

let fleet: TestFleet
beforeAll(async () => {
  fleet = await TestFleet.create()
})

/** Files in the folder that this process has open. */
function openIn(folder: string): string[] {
  const links = (process.platform === 'linux' ? readdirSync('/proc/self/fd') : []).map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`)
    } catch {
      return 'closed since'
    }
  })
  return links.filter((link) => link.startsWith(folder))
}

/** A writer of which every put waits until the test lets it go, or refuses it. */
async function gated() {
  const gates = new Map<string, PromiseWithResolvers<void>>()
  const begun = async (name: string) => {
    const gate = await vi.waitUntil(() => gates.get(name), { timeout: 60_000 })
    return gate
  }
  const backup = fleet.place(0)
  const { put } = fleet.objects.sink(backup)
  const objects = {
    put: async (...[name, ...rest]: Parameters<typeof put>) => {
      const gate = Promise.withResolvers<void>()
      gates.set(name.split('-')[0] as string, gate)
      await gate.promise
      await put(name, ...rest)
    },
  }
  const given = fleet.options(backup, { objects })
  const writer = await openWriter(given)
  await writer.stream({ name: 'a', chunking }, pieces(seededBytes(1, 100_000)))
  return { writer, begun, gates, scratch: given.scratch }
}

test('sends contents and index side by side once the last pack is stored, and writes its list once they are', async () => {
  const { writer, begun, gates, scratch } = await gated()
  const finished = writer.finish(NOTHING)
  ;(await begun('keys/1')).resolve()
  const pack = await begun('packs/1')
  expect([...gates.keys()]).toEqual(['keys/1', 'packs/1'])
  expect(existsSync(path.join(scratch, 'known'))).toBe(false)
  pack.resolve()
  const [contents, index] = [await begun('contents/1'), await begun('index/1')]
  expect(existsSync(path.join(scratch, 'known'))).toBe(false)
  index.resolve()
  contents.resolve()
  expect((await finished).objects.map(({ name }) => name.split('-')[0])).toEqual(['keys/1', 'packs/1', 'contents/1', 'index/1'])
  await writer.close()
})

test('fails with what one of them fails with, once nothing of it goes on, and leaves no file open', async () => {
  const { writer, begun, scratch } = await gated()
  let settled = false
  const finished = writer.finish(NOTHING).finally(() => {
    settled = true
  })
  const failed = expect(finished).rejects.toThrow('the store is full')
  ;(await begun('keys/1')).resolve()
  ;(await begun('packs/1')).resolve()
  ;(await begun('index/1')).reject(new Error('the store is full'))
  const contents = await begun('contents/1')
  // whoever did not wait for it would have failed by then
  await new Promise((resolve) => setImmediate(resolve))
  expect(settled).toBe(false)
  contents.resolve()
  await failed
  await writer.close()
  expect(openIn(scratch)).toEqual([])
})

test('a pack that is refused is what it fails with: contents are not sent', async () => {
  const { writer, begun, gates } = await gated()
  const failed = expect(writer.finish(NOTHING)).rejects.toThrow('the store is full')
  ;(await begun('keys/1')).resolve()
  ;(await begun('packs/1')).reject(new Error('the store is full'))
  await failed
  await writer.close()
  expect([...gates.keys()]).toEqual(['keys/1', 'packs/1'])
})

test('closed between two steps of the list of known chunks, it writes nothing more into it', async () => {
  const backup = fleet.place(0)
  const { put } = fleet.objects.sink(backup)
  const given = fleet.options(backup, {
    objects: {
      put: async (...[name, ...rest]: Parameters<typeof put>) => {
        // the list's first step comes before this has its turn, its second one after it
        if (name.startsWith('contents/')) setImmediate(closeNow)
        await put(name, ...rest)
      },
    },
  })
  const list = path.join(given.scratch, 'known')
  let lengthThen = -1
  const closeNow = () => {
    void writer.close()
    lengthThen = statSync(list).size
  }
  const writer = await openWriter(given)
  await writer.stream({ name: 'a', chunking: { kind: 'fixed', bytes: 512 } }, pieces(seededBytes(2, 4700 * 512)))
  await expect(writer.finish(NOTHING)).rejects.toThrow('the writer was closed')
  await writer.close()
  expect(lengthThen).toBeGreaterThan(0)
  expect(statSync(list).size).toBe(lengthThen)
  expect(openIn(given.scratch)).toEqual([])
})

test('of the pages of many artifacts no more are in memory than blocks may be', async () => {
  const given = fleet.options(fleet.place(0), {})
  const threads = new CodecThreads(1)
  let under = 0
  let most = 0
  let pages = 0
  const codec: BlockCodec = {
    pack: async (block) => {
      most = Math.max(most, ++under)
      if (block.length > 300_000) pages++
      return await threads.pack(block).finally(() => under--)
    },
    close: () => threads.close(),
  }
  const writer = await openWriter({ ...given, codec })
  const text = seededBytes(3, 200_000).toString('hex')
  for (let n = 0; n < 30; n++) await writer.stream({ name: `a${n}`, chunking, facts: { text } }, pieces(Buffer.from(`${n}`)))
  await writer.finish(NOTHING)
  await writer.close()
  expect(pages).toBeGreaterThan(12)
  expect(most).toBeLessThanOrEqual(codecThreads() * 2 + 3)
})
