import { readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { available } from '../harness/cache.ts'
import type { CommandResult } from '../harness/commands.ts'
import { schemathesis } from '../harness/schemathesis.ts'
import { type Document, operationsOf, withExamples, withRealValues } from './api-document.ts'
import { type FleetToFuzz, fleetToFuzz } from './api-fleet.ts'

const SEED = '20261121'
const SECONDS = '60'
const run = await available('schemathesis', 'download', () => true, schemathesis)

/** Takes its host and the tool's ids away: asked last, and by themselves. */
const LAST = ['revokeAgent', 'revokeApiKey']
/** What has no success here, and the refusal that shows that the object was found: no job of this fleet was lost. */
const REFUSED: Readonly<Record<string, number>> = { forceJob: 409 }
/** Answers before an operation is asked what it knows. */
const AT_THE_DOOR = [400, 401, 404, 415, 429]

interface Exchange {
  readonly request: { readonly method: string; readonly url: string }
  readonly response: { readonly status: number; readonly content: { readonly text?: string } }
}

describe.skipIf(run === null)('whatever is sent to a fleet that has something of everything', () => {
  let fleet: FleetToFuzz
  let document: Document
  let runs = 0
  beforeAll(async () => {
    fleet = await fleetToFuzz()
    document = (await (await fetch(`${fleet.holdfast.operator.url}/openapi.json`)).json()) as Document
    await writeFile(at('schemathesis.toml'), withRealValues(fleet.real))
  })
  afterAll(() => fleet?.holdfast[Symbol.asyncDispose]())
  const at = (name: string) => path.join(fleet.holdfast.folder.path, name)

  /** What was asked and answered; a failure of ours is one of the test. */
  async function fuzz(asked: Document, ...more: string[]): Promise<Exchange[]> {
    runs += 1
    const [file, report] = [at(`openapi-${runs}.json`), at(`asked-${runs}.har`)]
    await writeFile(file, JSON.stringify(asked))
    const { url, key } = fleet.holdfast.operator
    const args = [
      ...['run', file, '--url', url, '--header', `Authorization: ApiKey ${key}`, '--seed', SEED],
      ...['--checks', 'not_a_server_error', '--continue-on-failure', '--request-timeout', '60'],
      ...['--report', 'har', '--report-har-path', report, ...more],
    ]
    const result = (await run?.(args, fleet.holdfast.folder.path)) as CommandResult
    expect(result.status, `${result.stdout.slice(-6000)}${result.stderr.slice(-2000)}`).toBe(0)
    const { log } = JSON.parse(await readFile(report, 'utf8')) as { log: { entries: Exchange[] } }
    expect(log.entries.filter(({ response }) => response.status >= 500 || response.status < 100)).toEqual([])
    return log.entries
  }

  const excluded = LAST.flatMap((id) => ['--exclude-operation-id', id])
  const included = LAST.flatMap((id) => ['--include-operation-id', id])
  const statusesOf = (exchanges: readonly Exchange[], id: string) => {
    const [operation] = operationsOf(document).filter((one) => one.id === id)
    return exchanges.filter(({ request }) => operation?.is(request)).map(({ response }) => response.status)
  }
  const expectEnded = (exchanges: readonly Exchange[]) => {
    const streams = exchanges.filter(({ request, response }) => request.url.includes('/events') && succeeds(response.status))
    expect(streams.length).toBeGreaterThan(1)
    for (const { response } of streams) expect(response.content.text).toMatch(/event: end\ndata: \{\}\n\n$/)
  }
  const succeeds = (status: number) => status >= 200 && status < 300

  it('each operation is done at least once, and none answers with a failure of ours', async () => {
    const exchanges = await fuzz(withExamples(document, fleet.real), '--phases', 'examples', ...excluded)
    for (const { id } of operationsOf(document).filter((one) => !LAST.includes(one.id)))
      expect(statusesOf(exchanges, id), id).toContainEqual(REFUSED[id] ?? expect.toSatisfy(succeeds))
    expectEnded(exchanges)
  }, 600_000)

  it('every case of the document is tried, and none is answered with a failure of ours', async () => {
    // hundreds of jobs are asked for: one after the other they would take what the requests need
    const agent = fleet.holdfast.agents.get('db1')
    await agent?.stop()
    // the same key comes with each case, and would answer for the operation
    const asked = withExamples(document, fleet.real, 'idempotency-key')
    const exchanges = await fuzz(asked, '--phases', 'coverage', ...excluded)
    await agent?.start()
    for (const { id } of operationsOf(document).filter((one) => one.named && !LAST.includes(one.id)))
      expect(statusesOf(exchanges, id).filter((status) => !AT_THE_DOOR.includes(status)).length, id).toBeGreaterThan(0)
    expectEnded(exchanges)
  }, 600_000)

  it('what is thought up finds real objects, and none of it is answered with a failure of ours', async () => {
    const exchanges = await fuzz(withExamples(document, fleet.real), '--phases', 'fuzzing', '--max-time', SECONDS, ...excluded)
    const named = operationsOf(document).filter((one) => one.named && !LAST.includes(one.id))
    const statuses = named.flatMap(({ id }) => statusesOf(exchanges, id))
    expect(statuses.length).toBeGreaterThan(100)
    expect(statuses.filter((status) => !AT_THE_DOOR.includes(status)).length).toBeGreaterThan(statuses.length / 2)
  }, 600_000)

  it('hosts and keys are revoked, and nothing of it is answered with a failure of ours', async () => {
    const phases = ['--phases', 'examples,coverage,fuzzing', '--max-examples', '20']
    const exchanges = await fuzz(withExamples(document, fleet.real), ...phases, ...included)
    for (const id of LAST) expect(statusesOf(exchanges, id), id).toContainEqual(expect.toSatisfy(succeeds))
  }, 600_000)
})
