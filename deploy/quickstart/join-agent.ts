import { X509Certificate } from 'node:crypto'
import { existsSync } from 'node:fs'
import path from 'node:path'
import { loadAgentConfig } from '../../agent/config/agent-config.ts'
import { type AgentIdentity, readIdentity, storeIdentity } from '../../agent/link/identity.ts'
import type { RunningServer } from '../../control-plane/server/start-server.ts'
import { addCommand } from '../../shared/add-command.ts'
import { systemClock } from '../../shared/clock.ts'
import type { FoundSource } from '../../shared/results.ts'
import type { AgentProcess } from './agent-process.ts'
import { homeNeeded } from './print.ts'
import type { Sample } from './sample.ts'

export interface Joined {
  readonly name: string
  readonly renewsInHours: number
}

interface JoinOptions {
  readonly home: string
  readonly hostName: string
  readonly server: RunningServer
  readonly agent: AgentProcess
  readonly sample: Sample
  readonly stop: AbortSignal
}

const WAIT_MS = 60_000
/** The rest is for `discover`: a server may hold hundreds of databases. */
const SHOWN = 5

/** Enrols the agent as any host is, unless it was before, gives it the sample's sources, and waits until it is connected. */
export async function joinAgent(options: JoinOptions): Promise<Joined> {
  const { server, agent, sample } = options
  const folder = path.join(options.home, 'agent')
  const before = existsSync(folder) ? await readIdentity(folder) : null
  if (!before) {
    const invitation = await server.operations.inviteAgent(server.operator, {
      name: options.hostName,
      valid_seconds: 900,
      replace: false,
    })
    const args = ['configure', '--server', invitation.server, '--token-file', '-', '--pin', invitation.pin]
    await agent.command(args, invitation.token)
  } else await follow(folder, before, server.ports)
  const configured = (await loadAgentConfig({ config: folder, state: folder })).sources
  if (!configured.notes) await agent.command(['source', 'add', 'notes', '--engine', 'sqlite', '--path', sample.notes])
  if (!configured.config) await agent.command(['source', 'add', 'config', '--engine', 'files', '--path', sample.config])
  agent.start()
  const identity = await readIdentity(folder)
  const name = identity?.name ?? options.hostName
  await Promise.race([connected(options, name), agent.failed()])
  return { name, renewsInHours: renewsInHours(identity?.chainPem) }
}

/** The control plane may have been started on other ports than those that the agent enrolled at. */
async function follow(folder: string, identity: AgentIdentity, { agents, enrolment }: RunningServer['ports']): Promise<void> {
  const [agentsAddress, enrolmentAddress] = [`127.0.0.1:${agents}`, `127.0.0.1:${enrolment}`]
  if (identity.agentsAddress === agentsAddress && identity.enrolmentAddress === enrolmentAddress) return
  await storeIdentity(folder, { ...identity, agentsAddress, enrolmentAddress })
}

async function connected({ server, stop }: JoinOptions, name: string): Promise<void> {
  const giveUp = AbortSignal.any([stop, AbortSignal.timeout(WAIT_MS)])
  for (;;) {
    const { items } = await server.operations.listSources(server.operator, {}, { limit: 500 })
    const mine = items.filter((source) => source.agent === name && source.connected)
    if (['notes', 'config'].every((wanted) => mine.some((source) => source.source === `${name}/${wanted}`))) return
    await systemClock.sleep(100, giveUp)
  }
}

/** At two thirds of the certificate's life. */
function renewsInHours(chainPem: string | undefined): number {
  if (!chainPem) return 0
  const { validFromDate, validToDate } = new X509Certificate(chainPem)
  const renewAt = validFromDate.getTime() + ((validToDate.getTime() - validFromDate.getTime()) * 2) / 3
  return Math.max(0, Math.round((renewAt - systemClock.now().getTime()) / 3_600_000))
}

/** Real stores of this machine that are not protected yet: named, with the command that would do it, and never backed up unasked. */
export async function foundHere(agent: Pick<AgentProcess, 'command'>, home: string): Promise<string[]> {
  const answer = JSON.parse(await agent.command(['discover', '--format', 'json'])) as { items: FoundSource[] }
  const folder = path.join(home, 'agent')
  const { sources } = await loadAgentConfig({ config: folder, state: folder })
  const protectedUrls = Object.values(sources).map(({ url }) => url)
  const open = answer.items.filter(({ add }) => !add.some((argument) => protectedUrls.includes(argument)))
  const agentCommand = `${homeNeeded(home, 'agent')}npx --no-install `
  const lines = open.slice(0, SHOWN).map((found) => `${found.title} - protect it: ${agentCommand}${addCommand(found)}`)
  const more = open.length - lines.length
  return more > 0 ? [...lines, `and ${more} more: ${agentCommand}holdfast-agent discover`] : lines
}
