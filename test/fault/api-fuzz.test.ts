import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { expect, test } from 'vitest'
import { ACCESS } from '../../control-plane/api/access.ts'
import { available } from '../harness/cache.ts'
import { TestHoldfast } from '../harness/holdfast.ts'
import { schemathesis } from '../harness/schemathesis.ts'

const SEED = '20261121'
const SECONDS = '150'
const run = await available('schemathesis', 'download', () => true, schemathesis)
/** The limits would answer instead of the routes. */
const unlimited = Object.fromEntries(Object.entries(ACCESS).map(([name, row]) => [name, { ...row, perMinute: 1_000_000 }]))

test.skipIf(run === null)(
  'whatever is sent to any route, none answers with a failure of ours',
  { timeout: 1_200_000 },
  async () => {
    await using holdfast = await TestHoldfast.start({ access: unlimited, logLevel: 'silent' })
    const key = (await readFile(path.join(holdfast.folder.path, 'server', 'admin.key'), 'utf8')).trim()
    const cassette = path.join(holdfast.folder.path, 'cassette.yaml')
    const fuzz = async (...more: string[]) =>
      await run?.(
        [
          ...['run', `${holdfast.server.apiUrl}/openapi.json`, '--header', `Authorization: ApiKey ${key}`, '--seed', SEED],
          ...['--checks', 'not_a_server_error', '--phases', 'examples,coverage,fuzzing', '--continue-on-failure'],
          ...['--request-timeout', '30', '--report', 'vcr', '--report-vcr-path', cassette, ...more],
        ],
        holdfast.folder.path,
      )
    // a stream has no end of its own; and a tool that learns ids from answers would take its own key away before the rest was tried
    const result = await fuzz(
      '--exclude-operation-id',
      'jobEvents',
      '--exclude-operation-id',
      'revokeApiKey',
      '--max-time',
      SECONDS,
    )
    expect(result?.status, `${result?.stdout.slice(-6000)}${result?.stderr.slice(-2000)}`).toBe(0)
    const found = await statuses(cassette)
    expect(found.filter((status) => status >= 500)).toEqual([])
    // the routes were reached: most was refused for what was asked, not for who asked, and some was done
    expect(found.filter((status) => status >= 200 && status < 300).length).toBeGreaterThan(50)
    expect(found.filter((status) => status === 401 || status === 429).length).toBeLessThan(found.length / 5)
    const last = await fuzz('--include-operation-id', 'revokeApiKey', '--max-examples', '20')
    expect(last?.status, last?.stdout.slice(-6000)).toBe(0)
  },
)

async function statuses(cassette: string): Promise<number[]> {
  const text = await readFile(cassette, 'utf8')
  return [...text.matchAll(/^ +code: '(\d{3})'$/gm)].map(([, code]) => Number(code))
}
