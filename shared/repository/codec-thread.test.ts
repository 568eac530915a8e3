import { Worker } from 'node:worker_threads'
import { expect, test } from 'vitest'
import { sumOf } from './sums.mjs'

/** With a collector that says when it is asked, where the thread asks V8 for one. */
const PROGRAM = `
const { parentPort } = require('node:worker_threads')
require('node:vm').runInNewContext = () => () => parentPort.postMessage('collected')
import(${JSON.stringify(new URL('./codec-thread.mjs', import.meta.url).href)})
`

test('a thread collects its garbage after every 256 blocks, packed or opened, when it has answered', async () => {
  const worker = new Worker(PROGRAM, { eval: true, env: {} })
  try {
    const blocks = 700
    const answers: unknown[] = []
    const answered = new Promise<void>((resolve, reject) => {
      worker.on('error', reject)
      worker.on('exit', () => reject(new Error('it has ended')))
      worker.on('message', (answer: { id: number } | 'collected') => {
        answers.push(answer === 'collected' ? answer : answer.id)
        if (answers.at(-1) === blocks) resolve()
      })
    })
    const plain = Buffer.alloc(100, 'a')
    for (let id = 1; id <= blocks; id++) {
      const memory = new Uint8Array(plain).buffer
      const task =
        id % 2 === 0
          ? { id, memory, length: plain.length, sum: sumOf(plain), effort: 'fitting' }
          : { id, memory, codec: 'stored', ends: Uint32Array.of(50, plain.length) }
      worker.postMessage(task, [memory])
    }
    await answered
    const ids = Array.from({ length: blocks }, (_, n) => n + 1)
    expect(answers).toEqual([...ids.slice(0, 256), 'collected', ...ids.slice(256, 512), 'collected', ...ids.slice(512)])
  } finally {
    await worker.terminate()
  }
})
