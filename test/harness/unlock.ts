import { createServer } from 'node:http'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import type { JobView } from '../../control-plane/api/schemas/jobs.ts'
import { type Ran, run } from '../../control-plane/cli/testing.ts'
import { runCommand } from './commands.ts'
import type { TestAgent, TestHoldfast } from './holdfast.ts'
import { waitFor } from './wait.ts'

const AGENT = fileURLToPath(new URL('../../agent/main.ts', import.meta.url))

/** What `holdfast-agent jobs` shows on the host: the only place where an operator learns what to compare with. */
export async function jobsOnHost(agent: TestAgent): Promise<Array<{ job: string; backup: string; fingerprint: string | null }>> {
  const args = ['--disable-warning=ExperimentalWarning', AGENT, '--home', agent.home, 'jobs', '--format', 'json']
  return JSON.parse(await runCommand(process.execPath, args)).jobs
}

export async function fingerprintOnHost(agent: TestAgent, job: { id: string }): Promise<string> {
  const found = (await jobsOnHost(agent)).find((candidate) => candidate.job === job.id)
  if (found?.fingerprint) return found.fingerprint
  throw new Error(`the host shows no fingerprint of ${job.id}`)
}

/** The job once it asks to be unlocked, in the attempt given or any. */
export function waiting(holdfast: TestHoldfast, job: { id: string }, attempt?: number): Promise<JobView> {
  return waitFor(`job ${job.id} to wait for an operator`, async () => {
    const now = await holdfast.operator.job(job.id)
    const asks = now.unlock !== null && now.unlock.unlocked_at === null && now.progress?.phase === 'unlock'
    if (now.finished_at !== null) throw new Error(`the job is ${now.status}: ${JSON.stringify(now.error)}`)
    return now.status === 'running' && asks && (attempt === undefined || now.attempt === attempt) && now
  })
}

/** `holdfast unlock`, as an operator runs it where the recovery key is. `url`: by way of whoever answers there. */
export function unlockCommand(
  holdfast: TestHoldfast,
  job: { id: string },
  options: { fingerprint?: string; identity: string; url?: string; answer?: string },
): Promise<Ran> {
  const { fingerprint, identity, answer } = options
  const args = ['unlock', job.id, '--identity', identity, ...(fingerprint === undefined ? [] : ['--fingerprint', fingerprint])]
  const environment = { HOLDFAST_API_KEY: holdfast.operator.key }
  return run(options.url ?? holdfast.operator.url, args, { environment, cwd: path.dirname(identity), answer })
}

/** A control plane that lies: passes everything on and changes what it answers to `GET .../unlock`. */
export async function lyingControlPlane(url: string, lie: (locked: never) => unknown) {
  const posted: string[] = []
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    if (request.method === 'POST') posted.push(Buffer.concat(chunks).toString('utf8'))
    const answer = await fetch(`${url}${request.url}`, {
      method: request.method ?? 'GET',
      headers: { authorization: request.headers.authorization ?? '', 'content-type': 'application/json' },
      ...(chunks.length > 0 ? { body: Buffer.concat(chunks) } : {}),
    })
    const text = await answer.text()
    const changed = request.method === 'GET' && request.url?.endsWith('/unlock') && answer.ok
    response.writeHead(answer.status, { 'content-type': 'application/json' })
    response.end(changed ? JSON.stringify(lie(JSON.parse(text) as never)) : text)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('the liar has no port')
  return {
    url: `http://127.0.0.1:${address.port}`,
    /** Bodies that were sent to it. */
    posted,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
