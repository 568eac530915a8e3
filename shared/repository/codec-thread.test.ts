import { readdirSync } from 'node:fs'
import os from 'node:os'
import { Worker } from 'node:worker_threads'
import { expect, test } from 'vitest'
import { sumOf } from './sums.mjs'

/** With a collector that says when it is asked, where the thread asks V8 for one. */
const PROGRAM = `
const { parentPort } = require('node:worker_threads')
require('node:vm').runInNewContext = () => () => parentPort.postMessage('collected')
import(${JSON.stringify(new URL('./codec-thread.mjs', import.meta.url).href)})
`

/** Packs and opens so many blocks, one after the other; gives all that the thread said. */
async function work(worker: Worker, blocks: number): Promise<Array<number | 'collected'>> {
  const said: Array<number | 'collected'> = []
  const plain = Buffer.alloc(100, 'a')
  await new Promise<void>((resolve, reject) => {
    worker.on('error', reject)
    worker.on('exit', () => reject(new Error('it has ended')))
    worker.on('message', (answer: { id: number } | 'collected') => {
      said.push(answer === 'collected' ? answer : answer.id)
      if (said.at(-1) === blocks) resolve()
    })
    for (let id = 1; id <= blocks; id++) {
      const memory = new Uint8Array(plain).buffer
      const task =
        id % 2 === 0
          ? { id, memory, length: plain.length, sum: sumOf(plain), effort: 'fitting' }
          : { id, memory, codec: 'stored', ends: Uint32Array.of(50, plain.length) }
      worker.postMessage(task, [memory])
    }
  })
  return said
}

test('a thread collects its garbage after every 256 blocks, packed or opened, when it has answered', async () => {
  const worker = new Worker(PROGRAM, { eval: true, env: {} })
  try {
    const ids = Array.from({ length: 700 }, (_, n) => n + 1)
    expect(await work(worker, ids.length)).toEqual([
      ...ids.slice(0, 256),
      'collected',
      ...ids.slice(256, 512),
      'collected',
      ...ids.slice(512),
    ])
  } finally {
    await worker.terminate()
  }
})

const threads = (): number[] => readdirSync('/proc/self/task').map(Number)
const isRoot = process.geteuid?.() === 0

test.skipIf(process.platform !== 'linux')(
  'a thread lets the main thread go first, also after the whole process was given another priority',
  async () => {
    const own = os.getPriority(process.pid)
    const before = new Set(threads())
    const worker = new Worker(PROGRAM, { eval: true, env: {} })
    try {
      await work(worker, 1)
      const [thread = 0, ...others] = threads().filter((one) => !before.has(one))
      expect(others).toEqual([])
      expect(os.getPriority(thread)).toBe(own + 5)
      // nobody else may raise one
      if (isRoot) os.setPriority(thread, own)
      await work(worker, 257)
      expect(os.getPriority(thread)).toBe(own + 5)
      expect(os.getPriority(process.pid)).toBe(own)
    } finally {
      await worker.terminate()
    }
  },
)

test('a thread of a host that forbids priorities works all the same', async () => {
  const program = `
    const os = require('node:os')
    os.setPriority = () => { throw Object.assign(new Error('forbidden'), { info: { code: 'EPERM' } }) }
    require('node:module').syncBuiltinESMExports()
    ${PROGRAM}`
  const worker = new Worker(program, { eval: true, env: {} })
  try {
    expect(await work(worker, 257)).toHaveLength(258)
  } finally {
    await worker.terminate()
  }
})
