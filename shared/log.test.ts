import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { describe, expect, it } from 'vitest'

const PROGRAM = `
import { createLogger } from ${JSON.stringify(new URL('./log.ts', import.meta.url).href)}
const log = createLogger()
process.stdin.once('data', () => {
  for (let n = 1; n <= 3; n++) log.info({ n }, 'the last words')
  process.exit(3)
})
console.log('ready')
`

/** A program that logs and ends at once, with this done to its standard error before. */
async function lastWords(before: (child: ReturnType<typeof start>) => void): Promise<{ status: unknown; written: string }> {
  const child = start()
  let written = ''
  child.stderr.on('data', (piece: Buffer) => {
    written += piece
  })
  await once(child.stdout, 'data')
  before(child)
  const ended = once(child, 'close')
  child.stdin.end('now')
  const [status] = await ended
  return { status, written }
}

const start = () => spawn(process.execPath, ['--input-type=module', '--disable-warning=ExperimentalWarning', '-e', PROGRAM])

describe('a program that ends right after it has logged', () => {
  it('has written what it logged', async () => {
    const { status, written } = await lastWords(() => undefined)
    expect(status).toBe(3)
    const lines = written
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line))
      // one that is being written in the background when the process ends may come after those that are left for the end
      .sort((a, b) => a.n - b.n)
    expect(lines).toMatchObject([1, 2, 3].map((n) => ({ level: 'info', n, msg: 'the last words' })))
  })

  it('ends all the same when nobody reads its log any more', async () => {
    expect((await lastWords((child) => child.stderr.destroy())).status).toBe(3)
  })
})
