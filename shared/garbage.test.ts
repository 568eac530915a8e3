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

it('a thread of a process without flags collects what nothing holds any more, and the flags are as they were', async () => {
  const worker = new Worker(PROGRAM, { eval: true, env: {}, execArgv: [] })
  try {
    const answer = await new Promise((resolve, reject) => {
      worker.once('message', resolve)
      worker.once('error', reject)
      worker.once('exit', () => reject(new Error('it has ended')))
    })
    expect(answer).toEqual({ before: true, after: false, global: false, same: true })
  } finally {
    await worker.terminate()
  }
})
