import { asHoldfastError, HoldfastError } from '../../shared/errors.ts'
import type { Caller } from '../api/operations.ts'
import type { FindingView } from '../api/schemas/common.ts'
import type { StatusView, SystemTestView } from '../api/schemas/system.ts'
import { connectedAgents } from '../catalog/identity-sessions.ts'
import { createJob, getJob } from '../catalog/jobs.ts'
import { listPolicies, listTargets } from '../catalog/policies.ts'
import { fullName, listSources, type SourceRow } from '../catalog/sources.ts'
import { agentsInUse, lastFailures, ownLooks, sourceStandings, unfinishedJobs } from '../catalog/standing.ts'
import { isFinished } from '../domain/job.ts'
import { policySchema, selectsSource } from '../domain/policy.ts'
import { strictestChoice } from '../domain/recipients.ts'
import { selects } from '../domain/source-pattern.ts'
import { threeTwoOne } from '../domain/three-two-one.ts'
import { SERVER_VERSION } from '../version.ts'
import { INSTANCE_DEAD_MS } from './agent-operations.ts'
import type { ControlPlane } from './control-plane.ts'

/** What the alert BackupMissing allows. */
const PROTECTED_SECONDS = 48 * 3600

/** The fleet on one screen. */
export async function status(cp: ControlPlane, by: Caller): Promise<StatusView> {
  const { db } = cp.catalog
  const now = cp.clock.now()
  const connected = await connectedAgents(db, INSTANCE_DEAD_MS)
  const standings = await sourceStandings(db)
  const own = await ownLooks(db)
  const failures = await lastFailures(db)
  const policies = (await listPolicies(db)).map((row) => ({ name: row.name, policy: policySchema.parse(row.spec) }))
  const kinds = new Map((await listTargets(db)).map((row) => [row.name, row.kind]))
  const sources = (await listSources(db, { present: true })).filter((row) => selects(by.sources, fullName(row)))
  return {
    version: SERVER_VERSION,
    fleet_id: cp.fleet.id,
    at: now.toISOString(),
    agents: { total: await agentsInUse(db), connected: connected.size },
    jobs: await unfinishedJobs(db),
    sources: sources.map((row) => {
      const standing = standings.get(row.id)
      const failure = failures.get(row.id)
      const selecting = policies.filter(({ policy }) => selectsSource(policy.select, row))
      const age = standing?.lastGoodAt ? (now.getTime() - standing.lastGoodAt.getTime()) / 1000 : null
      return {
        source: fullName(row),
        engine: row.engine,
        connected: connected.has(row.agentId),
        policies: selecting.map(({ name }) => name),
        protected: age !== null && age <= PROTECTED_SECONDS,
        last_good_at: standing?.lastGoodAt?.toISOString() ?? null,
        last_good_id: standing?.lastGoodId ?? null,
        age_seconds: age,
        verified_at: standing?.verifiedAt?.toISOString() ?? null,
        test_restored_at: standing?.testRestoredAt?.toISOString() ?? null,
        own_verified_at: own.get(row.id)?.verifiedAt?.toISOString() ?? null,
        own_test_restored_at: own.get(row.id)?.testRestoredAt?.toISOString() ?? null,
        recipients: strictestChoice(selecting.map(({ policy }) => policy.recipients)),
        last_failure: failure
          ? { job_id: failure.jobId, at: failure.at.toISOString(), code: failure.code, message: failure.message }
          : null,
        three_two_one: threeTwoOne(standing ? [kinds.get(standing.target) ?? 'local'] : []),
      }
    }),
  }
}

/** How long an agent is given to look at its sources. */
const PREFLIGHT_SECONDS = 60

/** Reaches every target and every source's pre-flight; changes nothing that stays. */
export async function systemTest(cp: ControlPlane, by: Caller): Promise<SystemTestView> {
  const { db } = cp.catalog
  const findings: FindingView[] = []
  for (const target of await listTargets(db)) findings.push(...(await testTarget(cp, target.name)))
  const connected = await connectedAgents(db, INSTANCE_DEAD_MS)
  const sources = (await listSources(db, { present: true })).filter((row) => selects(by.sources, fullName(row)))
  if (sources.length === 0) {
    findings.push({
      code: 'no_sources',
      severity: 'warning',
      message: 'no agent has a source yet',
      hint: 'Add one with holdfast-agent source add.',
    })
  }
  const tested = await Promise.all(sources.map((row) => testSource(cp, by, row, connected.has(row.agentId))))
  findings.push(...tested.flat())
  return { ok: !findings.some((finding) => finding.severity === 'error'), findings }
}

async function testTarget(cp: ControlPlane, name: string): Promise<FindingView[]> {
  try {
    const facts = await (await cp.target(name)).probe()
    const weak = [
      !facts.conditionalPut && 'it lets an object be replaced',
      !facts.checksumOnPut && 'it takes a body with a wrong checksum',
    ]
    return weak
      .filter((what) => what !== false)
      .map((what) => ({
        code: 'target_weak',
        severity: 'warning',
        subject: name,
        message: `target ${name}: ${what}`,
        hint: 'Everything is checked again after it was stored; a stricter service would refuse sooner.',
      }))
  } catch (error) {
    const { code, message, hint } = asHoldfastError(error)
    return [{ code, severity: 'error', subject: name, message, hint }]
  }
}

async function testSource(cp: ControlPlane, by: Caller, row: SourceRow, connected: boolean): Promise<FindingView[]> {
  const subject = fullName(row)
  if (!connected) {
    return [
      {
        code: 'agent_offline',
        severity: 'error',
        subject,
        message: `the agent of ${row.host} is not connected`,
        hint: 'Start it with holdfast-agent run.',
      },
    ]
  }
  const job = await createJob(
    cp.catalog.db,
    {
      spec: { kind: 'preflight', source: row.name },
      agentId: row.agentId,
      sourceId: row.id,
      requestedBy: `key:${by.keyName}`,
      maxAttempts: 1,
      deadlineSeconds: PREFLIGHT_SECONDS,
    },
    cp.clock.now(),
  )
  cp.wake()
  const done = await finished(cp, job.id)
  if (done.state !== 'succeeded') {
    const { errorCode, errorMessage, errorHint } = done
    return [
      {
        code: errorCode ?? 'internal',
        severity: 'error',
        subject,
        message: errorMessage ?? `pre-flight is ${done.state}`,
        hint: errorHint ?? undefined,
      },
    ]
  }
  const found = (done.detail as { findings?: FindingView[] } | null)?.findings ?? []
  return found.map((finding) => ({ ...finding, subject }))
}

async function finished(cp: ControlPlane, jobId: string) {
  const giveUpAt = cp.clock.monotonicMs() + PREFLIGHT_SECONDS * 1000 + 10_000
  while (cp.clock.monotonicMs() < giveUpAt) {
    const job = await getJob(cp.catalog.db, jobId)
    if (isFinished(job.state)) return job
    await cp.clock.sleep(200)
  }
  throw new HoldfastError('deadline_exceeded', `the pre-flight ${jobId} did not end in time`, {
    hint: 'Look at the agent’s log.',
  })
}
