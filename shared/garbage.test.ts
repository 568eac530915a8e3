import { Worker } from 'node:worker_threads'
import { expect, it } from 'vitest'

/** Whether an object that nothing holds is there before a collection and after it; and whether V8 would still take what was compiled before. */
const PROGRAM = `
const { cachedDataVersionTag } = require('node:v8')
const { parentPort } = require('node:worker_threads')
const compiledFor = cachedDataVersionTag()
const lost = (() => new WeakRef({}))()
// it is held as long as what runs now
setImmediate(async () => {
  const { collectGarbage } = await import(${JSON.stringify(new URL('./garbage.mjs', import.meta.url).href)})
  setImmediate(() => {
    const before = lost.deref() !== undefined
    setImmediate(() => {
      collectGarbage()
      parentPort.postMessage({ before, after: lost.deref() !== undefined, global: 'gc' in globalThis, same: compiledFor === cachedDataVersionTag() })
    })
  })
})
`

/** Pages of old objects, of each of which a few are still held. */
const HOLES = `
const { getHeapStatistics } = require('node:v8')
const { parentPort } = require('node:worker_threads')
import(${JSON.stringify(new URL('./garbage.mjs', import.meta.url).href)}).then(({ collectGarbage }) => {
  let all = Array.from({ length: 300_000 }, (_, n) => ({ n, more: [n, n, n, n] }))
  collectGarbage()
  const held = all.filter((_, n) => n % 100 === 0)
  const before = getHeapStatistics().total_heap_size
  all = null
  collectGarbage()
  parentPort.postMessage({ before, after: getHeapStatistics().total_heap_size, held: held.length })
})
`

const answerOf = async (program: string): Promise<unknown> => {
  const worker = new Worker(program, { eval: true, env: {}, execArgv: [] })
  try {
    return await new Promise((resolve, reject) => {
      worker.once('message', resolve)
      worker.once('error', reject)
      worker.once('exit', () => reject(new Error('it has ended')))
    })
  } finally {
    await worker.terminate()
  }
}

it('a thread of a process without flags collects what nothing holds any more, and the flags are as they were', async () => {
  expect(await answerOf(PROGRAM)).toEqual({ before: true, after: false, global: false, same: true })
})

it('what is left is moved together, so that most of the memory of the heap is given back', async () => {
  const { before, after, held } = (await answerOf(HOLES)) as { before: number; after: number; held: number }
  expect(held).toBe(3000)
  expect(after).toBeLessThan(before / 3)
})
