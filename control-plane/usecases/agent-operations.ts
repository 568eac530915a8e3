import { HoldfastError } from '../../shared/errors.ts'
import { actorOf, type Operations } from '../api/operations.ts'
import type { AgentView, SourceView } from '../api/schemas/agents.ts'
import { type AgentRow, agentById, agentInUse, lastAgentNamed, listAgents } from '../catalog/identity-agents.ts'
import { newestCertificate } from '../catalog/identity-certificates.ts'
import { connectedAgents } from '../catalog/identity-sessions.ts'
import { keyCursor, keyPage } from '../catalog/key-cursor.ts'
import { listPolicies } from '../catalog/policies.ts'
import { fullName, listSources } from '../catalog/sources.ts'
import { sourceStandings } from '../catalog/standing.ts'
import { policySchema, selectsSource } from '../domain/policy.ts'
import { selects } from '../domain/source-pattern.ts'
import type { ControlPlane } from './control-plane.ts'
import { inviteAgent } from './invite-agent.ts'
import { revokeAgent } from './revoke-agent.ts'

type AgentOperations = Pick<Operations, 'listAgents' | 'inviteAgent' | 'revokeAgent' | 'listSources'>

/** A control plane that has not been heard for so long holds no streams. */
export const INSTANCE_DEAD_MS = 30_000

/** Hosts and their sources as an operator reaches them. `server` is host:port as agents reach it. */
export function agentOperations(cp: ControlPlane, server: () => string): AgentOperations {
  const { db } = cp.catalog
  return {
    listAgents: async (by, options, page) => {
      const after = await agentAfter(cp, keyCursor(page.cursor))
      const rows = await listAgents(db, { all: options.all, limit: page.limit + 1, after })
      const visible =
        by.sources.length === 0 ? rows : rows.filter((row) => by.sources.some((pattern) => hostSelected(pattern, row.name)))
      const found = keyPage(visible, page.limit, (row) => row.id)
      return { ...found, items: await viewAgents(cp, found.items) }
    },
    inviteAgent: async (by, request) => {
      const { name, valid_seconds: validSeconds, replace } = request
      const invitation = await inviteAgent(cp, { name, validSeconds, replace, createdBy: actorOf(by) })
      const token = invitation.token.reveal()
      const { pin } = cp.fleet
      return {
        name: invitation.name,
        token,
        pin,
        server: server(),
        expires_at: invitation.expiresAt.toISOString(),
        command: `holdfast-agent configure --server ${server()} --token ${token} --pin ${pin}`,
      }
    },
    revokeAgent: async (by, name, reason) => {
      const row = await revokeAgent(cp, { name, reason: reason ?? `${actorOf(by)} asked for it` })
      const [view] = await viewAgents(cp, [row])
      if (!view) throw new HoldfastError('not_found', `there is no agent named ${name}`)
      return view
    },
    listSources: async (by, filter, page) => {
      const after = keyCursor(page.cursor) ?? ''
      const rows = (await viewSources(cp))
        .filter((source) => selects(by.sources, source.source) && source.source > after)
        .filter((source) => filter.engine === undefined || source.engine === filter.engine)
      return keyPage(rows, page.limit, (source) => source.source)
    },
  }
}

/** A list of agents goes on after the agent whose id the cursor names. */
async function agentAfter(cp: ControlPlane, id: string | undefined): Promise<{ name: string; id: string } | undefined> {
  if (id === undefined) return undefined
  const row = await agentById(cp.catalog.db, id)
  if (row) return row
  throw new HoldfastError('invalid_argument', 'the cursor is not one that this list gave', { hint: 'Begin the list again.' })
}

const hostSelected = (pattern: string, host: string): boolean => selects([`${pattern.split('/')[0]}/*`], `${host}/x`)

async function viewAgents(cp: ControlPlane, rows: readonly AgentRow[]): Promise<AgentView[]> {
  const { db } = cp.catalog
  const connected = await connectedAgents(db, INSTANCE_DEAD_MS)
  return Promise.all(
    rows.map(async (row) => {
      const certificate = await newestCertificate(db, row.id)
      const sources = await listSources(db, { agentId: row.id, present: true })
      return {
        id: row.id,
        name: row.name,
        state: row.state,
        state_reason: row.stateReason,
        connected: connected.has(row.id),
        version: row.version,
        os: row.os,
        arch: row.arch,
        labels: row.labels,
        clock_offset_seconds: row.clockOffsetMs === null ? null : row.clockOffsetMs / 1000,
        sources: sources.map(fullName),
        certificate: certificate && {
          serial: certificate.serial,
          generation: certificate.generation,
          not_after: certificate.notAfter.toISOString(),
        },
        created_at: row.createdAt.toISOString(),
        last_seen_at: row.lastSeenAt?.toISOString() ?? null,
      }
    }),
  )
}

export async function viewSources(cp: ControlPlane): Promise<SourceView[]> {
  const { db } = cp.catalog
  const connected = await connectedAgents(db, INSTANCE_DEAD_MS)
  const standings = await sourceStandings(db)
  const policies = (await listPolicies(db)).map((row) => ({ name: row.name, policy: policySchema.parse(row.spec) }))
  return (await listSources(db)).map((row) => ({
    source: fullName(row),
    engine: row.engine,
    agent: row.host,
    connected: connected.has(row.agentId),
    present: row.present,
    labels: row.labels,
    facts: row.facts,
    policies: policies.filter(({ policy }) => selectsSource(policy.select, row)).map(({ name }) => name),
    last_good_at: standings.get(row.id)?.lastGoodAt?.toISOString() ?? null,
    last_good_id: standings.get(row.id)?.lastGoodId ?? null,
    last_seen_at: row.lastSeenAt.toISOString(),
  }))
}

/** The active agent of a name. */
export async function requireAgentNamed(cp: ControlPlane, name: string): Promise<AgentRow> {
  const row = await agentInUse(cp.catalog.db, name)
  if (row?.state === 'active') return row
  const last = await lastAgentNamed(cp.catalog.db, name)
  const what = last ? `the agent ${name} is ${last.state}` : `there is no agent named ${name}`
  throw new HoldfastError('not_found', what, { hint: 'List the agents with `holdfast agents`.' })
}
