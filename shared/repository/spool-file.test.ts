import { closeSync, openSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { FileAppender, FileWindow } from './spool-file.ts'
import { removeTemporaryFolders, temporaryFolder } from './testing/temporary-folders.ts'

afterAll(removeTemporaryFolders)

/** More than a window holds, with records of every size up to more than a window. */
const RECORDS = Array.from({ length: 300 }, (_, n) => Buffer.alloc(n === 150 ? 200_000 : (n * 7919) % 1000, n))

test('records come back from a file as they were added, in order and out of it', () => {
  const file = path.join(temporaryFolder(), 'spool')
  const fd = openSync(file, 'wx+')
  try {
    const appender = new FileAppender(fd)
    const places = RECORDS.map((record) => {
      const at = appender.end
      appender.add(record)
      return at
    })
    appender.flush()
    expect(readFileSync(file).equals(Buffer.concat(RECORDS))).toBe(true)
    expect(appender.end).toBe(readFileSync(file).length)
    const window = new FileWindow(fd)
    const order = RECORDS.map((_, n) => n)
    for (const n of [...order, ...order.toReversed(), ...order.map((one) => (one * 131) % order.length)]) {
      const record = RECORDS[n] as Buffer
      expect(window.view(record.length, places[n] as number)?.equals(record)).toBe(true)
    }
    expect(window.view(2, appender.end - 1)).toBeNull()
    expect(window.view(1, appender.end + 1000)).toBeNull()
  } finally {
    closeSync(fd)
  }
})
