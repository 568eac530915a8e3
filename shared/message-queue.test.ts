import { expect, test } from 'vitest'
import { MessageQueue } from './message-queue.ts'

const all = async (queue: MessageQueue<number>) => {
  const seen: number[] = []
  for await (const item of queue) seen.push(item)
  return seen
}

test('messages come in order, and a full queue holds its producers back', async () => {
  const queue = new MessageQueue<number>(2)
  const pushed: number[] = []
  const producing = (async () => {
    for (let n = 1; n <= 5; n++) {
      await queue.push(n)
      pushed.push(n)
    }
    queue.close()
  })()
  await new Promise((resolve) => setImmediate(resolve))
  expect(pushed).toEqual([1, 2])
  expect(queue.offer(9)).toBe(false)
  expect(await all(queue)).toEqual([1, 2, 3, 4, 5])
  await producing
})

test('what was accepted before the end is consumed, unless it is dropped; the last word always is', async () => {
  const kept = new MessageQueue<number>(4)
  await kept.push(1)
  kept.close({ last: 2 })
  expect(await kept.push(3)).toBe(false)
  expect(await all(kept)).toEqual([1, 2])
  const dropped = new MessageQueue<number>(4)
  await dropped.push(1)
  dropped.close({ last: 2, drop: true })
  expect(await all(dropped)).toEqual([2])
})

test('an error reaches the consumer after the messages before it, and a waiting producer is let go', async () => {
  const queue = new MessageQueue<number>(1)
  await queue.push(1)
  const waiting = queue.push(2)
  queue.close({ error: new Error('gone') })
  expect(await waiting).toBe(false)
  await expect(all(queue)).rejects.toThrow('gone')
})
