import { rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { runCommand } from '../../test/harness/commands.ts'
import { readBytes } from './byte-source.ts'
import { collect, seededBytes } from './testing/content.ts'
import { temporaryFolder } from './testing/temporary-folders.ts'

const folder = temporaryFolder()
const bytes = seededBytes(1, 3_000_000)
const file = path.join(folder, 'file')
const signal = new AbortController().signal
let fifos = 0

async function fifo(): Promise<string> {
  const name = path.join(folder, `fifo${fifos++}`)
  await runCommand('mkfifo', [name])
  return name
}

beforeAll(() => writeFile(file, bytes))
afterAll(() => rm(folder, { recursive: true, force: true }))

describe('the bytes of a stream', () => {
  test('of a file, whole or in part', async () => {
    expect((await collect(readBytes({ file }, signal))).equals(bytes)).toBe(true)
    expect(
      (await collect(readBytes({ file, offset: 100, length: 2_000_000 }, signal))).equals(bytes.subarray(100, 2_000_100)),
    ).toBe(true)
    expect((await collect(readBytes({ file, offset: 2_999_990 }, signal))).equals(bytes.subarray(2_999_990))).toBe(true)
  })

  test('a file that ends before the length that was asked for is source_changed, one that is not there source_missing', async () => {
    await expect(collect(readBytes({ file, offset: 2_999_000, length: 2000 }, signal))).rejects.toMatchObject({
      code: 'source_changed',
    })
    await expect(collect(readBytes({ file: path.join(folder, 'none') }, signal))).rejects.toMatchObject({
      code: 'source_missing',
    })
  })

  test('of a named pipe that is opened before its writer comes', async () => {
    const name = await fifo()
    const reading = collect(readBytes({ fifo: name }, signal))
    await writeFile(name, bytes)
    expect((await reading).equals(bytes)).toBe(true)
  })

  test('a writer that comes and goes without a word is the end, not a wait for ever', async () => {
    const name = await fifo()
    const reading = collect(readBytes({ fifo: name }, signal))
    await writeFile(name, '')
    expect(await reading).toHaveLength(0)
  })

  test('a named pipe whose writer never comes is given up on abort', async () => {
    const stop = new AbortController()
    const reading = collect(readBytes({ fifo: await fifo() }, stop.signal))
    const expected = expect(reading).rejects.toThrow('enough')
    stop.abort(new Error('enough'))
    await expected
  })
})
