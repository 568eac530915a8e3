import { z } from 'zod'
import { ERRORS, type ErrorCode, HoldfastError } from '../../shared/errors.ts'
import type { JobEventView } from '../api/schemas/jobs.ts'
import type { ServerPlace } from './find-server.ts'
import { parseEvents, type ServerEvent } from './sse.ts'

export type Query = Readonly<Record<string, string | number | boolean | undefined>>

/** The API as the command line calls it. Problems become HoldfastErrors; no answer is `server_unreachable`. */
export interface Client {
  get<Answer>(path: string, query?: Query): Promise<Answer>
  send<Answer>(method: 'POST' | 'PUT' | 'DELETE', path: string, body?: unknown): Promise<Answer>
  /** Until the server ends the stream. Throws `server_unreachable` when it breaks. */
  events(jobId: string, after: number): AsyncIterable<JobEventView>
}

/** One answer that hangs must not hold a script for ever; the longest is `test`, which waits for every agent's pre-flight. */
const ANSWER_MS = 120_000
const MAX_ANSWER_BYTES = 64 * 1024 * 1024

export function createClient(place: ServerPlace): Client {
  const headers = { authorization: `ApiKey ${place.apiKey.reveal()}` }
  const call = async (method: string, path: string, body?: unknown) => {
    const answer = await reach(place.url, `${place.url}${path}`, {
      method,
      headers: body === undefined ? headers : { ...headers, 'content-type': 'application/json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      // a redirect would take the key elsewhere
      redirect: 'error',
      signal: AbortSignal.timeout(ANSWER_MS),
    })
    return await answerOf(place.url, answer)
  }
  return {
    get: <Answer>(path: string, query: Query = {}) => call('GET', path + queryText(query)) as Promise<Answer>,
    send: <Answer>(method: string, path: string, body?: unknown) => call(method, path, body) as Promise<Answer>,
    events: (jobId, after) => eventsOf(place.url, jobId, { ...headers, 'last-event-id': String(after) }),
  }
}

function queryText(query: Query): string {
  const given = Object.entries(query).filter(([, value]) => value !== undefined)
  return given.length === 0 ? '' : `?${new URLSearchParams(given.map(([name, value]) => [name, String(value)]))}`
}

async function reach(server: string, url: string, init: RequestInit): Promise<Response> {
  try {
    return await fetch(url, init)
  } catch (error) {
    throw unreachable(server, error)
  }
}

function unreachable(server: string, error: unknown): HoldfastError {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error
  const code = (cause as { code?: unknown }).code
  const why = typeof code === 'string' ? code : cause instanceof Error ? cause.message : String(cause)
  return new HoldfastError('server_unreachable', `the control plane at ${server} cannot be reached (${why})`, {
    hint: 'Check that it runs, and the address given by --url, HOLDFAST_URL or HOLDFAST_HOME.',
    cause: error,
  })
}

async function answerOf(server: string, answer: Response): Promise<unknown> {
  let text: string
  try {
    text = await answer.text()
  } catch (error) {
    throw unreachable(server, error)
  }
  if (text.length > MAX_ANSWER_BYTES) throw notOurs(server)
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    throw notOurs(server)
  }
  if (answer.ok) return value
  throw problemError(value, answer.status) ?? notOurs(server)
}

const problemSchema = z.object({ code: z.string(), detail: z.string(), hint: z.string().optional() })

/** A code that this version does not know still has its status. */
function problemError(value: unknown, status: number): HoldfastError | null {
  const parsed = problemSchema.safeParse(value)
  if (!parsed.success) return null
  const { code, detail, hint } = parsed.data
  const known = code in ERRORS ? (code as ErrorCode) : (BY_STATUS[status] ?? (status < 500 ? 'invalid_argument' : 'internal'))
  return new HoldfastError(known, detail, { hint, context: { problem: value } })
}
const BY_STATUS: Readonly<Record<number, ErrorCode>> = {
  401: 'unauthenticated',
  403: 'forbidden',
  404: 'not_found',
  409: 'conflict',
}

function notOurs(server: string): HoldfastError {
  return new HoldfastError('server_unreachable', `what answers at ${server} is not a Holdfast control plane`, {
    hint: 'Check the address given by --url, HOLDFAST_URL or HOLDFAST_HOME.',
  })
}

async function* eventsOf(server: string, jobId: string, headers: Record<string, string>): AsyncIterable<JobEventView> {
  const answer = await reach(server, `${server}/api/v1/jobs/${jobId}/events`, { headers, redirect: 'error' })
  if (!answer.ok) await answerOf(server, answer)
  if (!answer.body) throw notOurs(server)
  try {
    for await (const event of parseEvents(answer.body)) {
      if (event.name === 'end') return
      if (event.name === 'revoked') throw new HoldfastError('unauthenticated', 'the API key is no longer allowed to see this job')
      yield dataOf(event)
    }
  } catch (error) {
    throw error instanceof HoldfastError ? error : unreachable(server, error)
  }
  throw unreachable(server, new Error('the stream of events broke off'))
}

function dataOf(event: ServerEvent): JobEventView {
  return JSON.parse(event.data) as JobEventView
}
