import { cp } from 'node:fs/promises'
import { request as http } from 'node:http'
import { request as https } from 'node:https'
import path from 'node:path'
import type { Channel } from 'nice-grpc'
import { parseAddress } from '../../agent/link/address.ts'
import { agentsChannel, type Clients, clientsOn } from '../../agent/link/channel.ts'
import { type AgentIdentity, requireIdentity } from '../../agent/link/identity.ts'
import { createLink, type Link } from '../../agent/link/link.ts'
import { systemClock } from '../../shared/clock.ts'
import { type JobCommand, JobOutcome } from '../../shared/generated/holdfast/agent/v1/jobs.ts'
import type { SignedRequest } from '../../shared/generated/holdfast/agent/v1/objects.ts'
import type { Source } from '../../shared/generated/holdfast/agent/v1/session.ts'
import { createLogger } from '../../shared/log.ts'
import type { TestHoldfast } from './holdfast.ts'
import { waitFor } from './wait.ts'

/**
 * Somebody with a copy of an agent's home: its certificate, its keys, and no intention to do what the agent would. Speaks the wire
 * contract by hand, takes commands and does nothing with them unless a story says so.
 */
export class Thief implements AsyncDisposable {
  readonly home: string
  readonly identity: AgentIdentity
  readonly commands: JobCommand[] = []
  /** Jobs whose results the control plane has taken. */
  readonly confirmed: string[] = []
  readonly #channel: Channel
  readonly #clients: Clients
  #link: Link | undefined

  private constructor(home: string, identity: AgentIdentity) {
    this.home = home
    this.identity = identity
    this.#channel = agentsChannel(identity, parseAddress(identity.agentsAddress))
    this.#clients = clientsOn(this.#channel, systemClock)
  }

  static async of(holdfast: TestHoldfast, name: string): Promise<Thief> {
    const agent = holdfast.agents.get(name)
    if (!agent) throw new Error(`there is no agent ${name}`)
    const home = path.join(holdfast.folder.path, 'stolen', name)
    await cp(path.join(agent.home, 'identity'), path.join(home, 'identity'), { recursive: true })
    return new Thief(home, await requireIdentity(home))
  }

  get objects(): Clients['objects'] {
    return this.#clients.objects
  }

  /** Takes the agent's place: from here on its commands come here. */
  async connect(sources: readonly Pick<Source, 'name' | 'engine'>[]): Promise<Link> {
    const described = sources.map((source) => ({ ...source, labels: {}, facts: {} }))
    const link = await createLink({
      home: this.home,
      clock: systemClock,
      log: createLogger({ level: 'silent' }),
      agentVersion: '0.0.0-thief',
      describe: () => ({ sources: described, journal: [], labels: {} }),
      onCommand: (command) => {
        if (command.$case === 'jobCommand') this.commands.push(command.value)
        if (command.$case === 'resultConfirmed') this.confirmed.push(command.value.jobId)
      },
    })
    this.#link = link
    await waitFor('the thief to be connected', () => link.connected)
    return link
  }

  /** The command of a job, once it came. It is said to be at work. */
  async command(jobId: string): Promise<JobCommand> {
    const command = await waitFor(`the command of ${jobId}`, () => this.commands.find((candidate) => candidate.jobId === jobId))
    this.#said({ $case: 'jobAccepted', value: { jobId, attempt: command.attempt } })
    return command
  }

  /** Says that a job failed for good, whoever's it is. */
  fail(job: { jobId: string; attempt: number }): void {
    const error = { code: 'internal', message: 'the thief has lost interest', hint: '', retryable: false }
    const value = { ...job, outcome: JobOutcome.FAILED, error, totals: undefined, detailJson: '' }
    this.#said({ $case: 'jobResult', value })
  }

  /** Says that a job is done, with any answer. */
  succeed(job: { jobId: string; attempt: number }, detailJson: string): void {
    const value = { ...job, outcome: JobOutcome.SUCCEEDED, error: undefined, totals: undefined, detailJson }
    this.#said({ $case: 'jobResult', value })
  }

  #said(message: NonNullable<Parameters<Link['send']>[0]['message']>): void {
    if (!this.#link?.send({ message })) throw new Error('the thief is not connected')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#link?.close()
    this.#channel.close()
  }
}

/** One request to a signed address, changed as the story says; `headers` beside or in the place of those that belong to it. */
export async function send(
  to: SignedRequest,
  body?: Buffer,
  change: { method?: string; url?: string; headers?: Readonly<Record<string, string>>; without?: string } = {},
): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<number>()
  const own = body === undefined ? {} : to.headers
  const headers = Object.entries({ ...own, ...change.headers }).filter(([name]) => name !== change.without)
  const url = change.url ?? to.url
  // whoever steals has no need of the pin
  const options = { method: change.method ?? to.method, headers: Object.fromEntries(headers), agent: false as const }
  const asked = url.startsWith('http:') ? http(url, options) : https(url, { ...options, rejectUnauthorized: false })
  asked.once('response', (answer) => {
    answer.resume()
    resolve(answer.statusCode ?? 0)
  })
  asked.once('error', reject)
  asked.end(body)
  return promise
}

/** A signed address whose own words were changed, one word each, and one without its signature. */
export function altered(url: string): string[] {
  const words: Array<[RegExp, string]> = [
    [/X-Amz-Expires=\d+/, 'X-Amz-Expires=604800'],
    [/X-Amz-Date=\d{8}T/, 'X-Amz-Date=20991231T'],
    // its conditions are signed headers
    [/X-Amz-SignedHeaders=[^&]*%3B[^&]*/, 'X-Amz-SignedHeaders=host'],
    [/expires=\d+/, 'expires=99999999999'],
    [/size=\d+/, 'size=6'],
  ]
  const there = words.filter(([word]) => word.test(url))
  return [...there.map(([word, other]) => url.replace(word, other)), url.replace(/\?.*$/, '')]
}
