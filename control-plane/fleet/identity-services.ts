import type { CallContext } from 'nice-grpc-common'
import type {
  Certificate,
  ChallengeRequest,
  EnrollRequest,
  EnrolmentServiceImplementation,
  IdentityServiceImplementation,
  RenewLateRequest,
  RenewRequest,
} from '../../shared/generated/holdfast/agent/v1/enrolment.ts'
import { enrollAgent } from '../usecases/enroll-agent.ts'
import type { IdentityDeps } from '../usecases/identity-deps.ts'
import { challengeAgent, type Renewal, renewAgent, renewAgentLate } from '../usecases/renew-agent.ts'
import type { AgentContext, GuardContext } from './guard.ts'

/** Messages in, use cases, messages out. */

export function enrolmentService(deps: IdentityDeps, agentsAddress: string): EnrolmentServiceImplementation<GuardContext> {
  return {
    async enroll(request: EnrollRequest, context: CallContext & GuardContext) {
      const done = await enrollAgent(
        deps,
        {
          token: request.token,
          csrPem: request.csrPem,
          ageRecipient: request.ageRecipient,
          agentVersion: request.agentVersion.slice(0, 100),
          clock: timeOf(request.clockSeconds, deps),
        },
        (name) => context.note(name),
      )
      context.note(done.name, done.facts)
      return {
        agentId: done.agentId,
        name: done.name,
        certificate: certificateMessage(deps, done),
        authorityPem: deps.fleet.authorityPem,
        fleetId: deps.fleet.id,
        verifyingKey: deps.fleet.verifyingKeyText,
        agentsAddress,
        clockSeconds: secondsNow(deps),
      }
    },

    async challenge(request: ChallengeRequest) {
      const clock = timeOf(request.clockSeconds, deps)
      const { nonce } = await challengeAgent(deps, { chainPem: request.chainPem, clock })
      return { nonce, clockSeconds: secondsNow(deps) }
    },

    async renewLate(request: RenewLateRequest, context: CallContext & GuardContext) {
      const proof = {
        chainPem: request.chainPem,
        nonce: Buffer.from(request.nonce),
        signature: Buffer.from(request.signature),
        csrPem: request.csrPem,
      }
      const renewal = await renewAgentLate(deps, proof, (name) => context.note(name))
      context.note(renewal.name, { generation: renewal.generation, late_seconds: renewal.lateSeconds })
      return { certificate: certificateMessage(deps, renewal), authorityPem: deps.fleet.authorityPem }
    },
  }
}

export function identityService(deps: IdentityDeps): IdentityServiceImplementation<AgentContext> {
  return {
    async renew(request: RenewRequest, context: CallContext & AgentContext) {
      const renewal = await renewAgent(deps, context.agent.certificate, request.csrPem)
      context.note(context.agent.name, { generation: renewal.generation })
      return { certificate: certificateMessage(deps, renewal), authorityPem: deps.fleet.authorityPem }
    },
  }
}

/** Durations from now: the agent's wall clock is not asked. */
function certificateMessage(deps: IdentityDeps, renewal: Renewal): Certificate {
  const lifetimeSeconds = Math.max(0, Math.floor((renewal.notAfter.getTime() - deps.clock.now().getTime()) / 1000))
  return {
    chainPem: renewal.chainPem,
    generation: renewal.generation,
    lifetimeSeconds,
    renewAfterSeconds: Math.floor((lifetimeSeconds * 2) / 3),
  }
}

const secondsNow = (deps: IdentityDeps) => BigInt(Math.floor(deps.clock.now().getTime() / 1000))

/** The latest and earliest that a Date can hold; anything else an agent says is a clock that is wrong by as much. */
function timeOf(seconds: bigint, deps: IdentityDeps): Date {
  const time = new Date(Number(seconds) * 1000)
  // zero: an agent that does not say
  if (seconds === 0n) return deps.clock.now()
  return Number.isNaN(time.getTime()) ? new Date(8.64e15) : time
}
