import { X509Certificate } from 'node:crypto'
import { type ConnectionOptions, connect, createServer } from 'node:tls'
import { type Channel, createClientFactory } from 'nice-grpc'
import { Metadata } from 'nice-grpc-common'
import { ServerReflectionService } from 'nice-grpc-server-reflection'
import { ServerReflectionRequest } from 'nice-grpc-server-reflection/lib/proto/grpc/reflection/v1/reflection_pb.js'
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { parseAddress } from '../../agent/link/address.ts'
import { agentsChannel, clientsOn, enrolmentChannel } from '../../agent/link/channel.ts'
import type { AgentIdentity } from '../../agent/link/identity.ts'
import { RPC_POLICY } from '../../control-plane/fleet/rpc-policy.ts'
import { pathsOf } from '../../control-plane/fleet/servers.ts'
import { revokeAgent } from '../../control-plane/usecases/revoke-agent.ts'
import { systemClock } from '../../shared/clock.ts'
import { FakeClock } from '../../shared/fake-clock.ts'
import { type HealthClient, HealthDefinition } from '../../shared/generated/grpc/health/v1/health.ts'
import { EnrolmentServiceDefinition, IdentityServiceDefinition } from '../../shared/generated/holdfast/agent/v1/enrolment.ts'
import { ObjectServiceDefinition } from '../../shared/generated/holdfast/agent/v1/objects.ts'
import { SessionServiceDefinition } from '../../shared/generated/holdfast/agent/v1/session.ts'
import { issueForAgent, newAuthority } from '../../shared/x509/authority.ts'
import { CONTROL_PLANE_NAME } from '../../shared/x509/control-plane-name.ts'
import { newKeyPair } from '../../shared/x509/key-pair.ts'
import { TestFleet, type TestPlane } from '../harness/fleet.ts'
import { waitFor } from '../harness/wait.ts'

let fleet: TestFleet
let plane: TestPlane
let identity: AgentIdentity
beforeAll(async () => {
  fleet = await TestFleet.start()
  plane = await fleet.plane()
  identity = (await fleet.enrolled(plane, 'db1')).identity
})
beforeEach(() => {
  fleet.audit.length = 0
})
afterAll(() => fleet.dispose())

const pem = (key: AgentIdentity['privateKey']) => key.export({ type: 'pkcs8', format: 'pem' }) as string

/** What a TLS client sees: `open` when the server speaks HTTP/2 to it, else the error or `closed`. */
function handshake(address: string, options: ConnectionOptions): Promise<string> {
  const { host, port } = parseAddress(address)
  return new Promise((resolve) => {
    const socket = connect({
      host,
      port,
      servername: CONTROL_PLANE_NAME,
      ALPNProtocols: ['h2'],
      ca: identity.authorityPem,
      ...options,
    })
    socket.once('data', () => {
      resolve('open')
      socket.destroy()
    })
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message))
    socket.once('close', () => resolve('closed'))
  })
}

test('a port that is taken is port_taken and names it; nothing else is printed', async () => {
  const printed = vi.spyOn(console, 'error').mockImplementation(() => undefined)
  const { host, port } = parseAddress(plane.agents)
  const listen = { agents: { host, port }, enrolment: { host, port: 0 } }
  await expect(fleet.plane({ listen })).rejects.toMatchObject({
    code: 'port_taken',
    message: `port ${port} on ${host} for the agents is taken`,
    hint: expect.stringContaining('--agent-port'),
  })
  expect(printed.mock.calls).toEqual([])
  printed.mockRestore()
})

describe('the agents listener: a client certificate required by TLS itself', () => {
  const own = () => ({ cert: identity.chainPem, key: pem(identity.privateKey) })

  test('a certificate of this authority gets through, none does not', async () => {
    expect(await handshake(plane.agents, own())).toBe('open')
    expect(await handshake(plane.agents, {})).toMatch(/CERTIFICATE_REQUIRED|closed/)
  })

  test('a certificate of another authority of the same name is refused', async () => {
    const other = await newAuthority(fleet.fleet.id, new Date())
    const { publicKey, privateKey } = await newKeyPair()
    const agent = {
      publicKey,
      fleetId: fleet.fleet.id,
      agentId: identity.agentId,
      name: 'db1',
      now: new Date(),
      lifetimeMs: 3_600_000,
    }
    const forged = await issueForAgent(other, agent)
    expect(await handshake(plane.agents, { cert: forged.chainPem, key: pem(privateKey) })).not.toBe('open')
  })

  test('a certificate made for a server is refused as a client, and an agent cannot pass for a control plane', async () => {
    const server = await fleet.fleet.issueServerCertificate(['127.0.0.1'])
    expect(await handshake(plane.agents, { cert: server.chainPem, key: server.privateKeyPem.reveal() })).not.toBe('open')
    const impostor = createServer({ cert: identity.chainPem, key: pem(identity.privateKey), ALPNProtocols: ['h2'] }, (socket) => {
      socket.on('error', () => undefined)
      socket.write('hello')
    })
    await new Promise<void>((resolve) => impostor.listen(0, '127.0.0.1', resolve))
    const { port } = impostor.address() as { port: number }
    try {
      expect(await handshake(`127.0.0.1:${port}`, { checkServerIdentity: () => undefined })).toBe('INVALID_PURPOSE')
    } finally {
      impostor.close()
    }
  })

  test('TLS 1.2 is the least', async () => {
    expect(await handshake(plane.agents, { ...own(), minVersion: 'TLSv1.2', maxVersion: 'TLSv1.2' })).toBe('open')
    const old = { minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' } as const
    for (const address of [plane.agents, plane.enrolment]) {
      expect(await handshake(address, { ...own(), ...old })).toMatch(/PROTOCOL_VERSION|UNSUPPORTED_PROTOCOL|closed|ECONNRESET/)
    }
  })

  test('the enrolment listener asks for none, and serves no agents', async () => {
    expect(await handshake(plane.enrolment, {})).toBe('open')
    const channel = enrolmentChannel(parseAddress(plane.enrolment), identity.authorityPem)
    try {
      await expect(clientsOn(channel, systemClock).identity.renew({ csrPem: '', generation: 1 })).rejects.toMatchObject({
        code: 'not_supported',
      })
    } finally {
      channel.close()
    }
  })
})

describe('who calls is read from the connection', () => {
  test('a certificate that a client sends as metadata is thrown away', async () => {
    const other = (await fleet.enrolled(plane, 'db2')).identity
    const channel = agentsChannel(identity, parseAddress(plane.agents))
    try {
      const metadata = Metadata({ 'holdfast-peer-certificate-bin': new X509Certificate(other.chainPem).raw })
      const call = clientsOn(channel, systemClock).objects.openBackups({ jobId: 'j', attempt: 1, recipient: '' }, { metadata })
      await expect(call).rejects.toMatchObject({ code: 'attempt_fenced' })
      expect(fleet.audit.at(-1)).toMatchObject({ actor: 'agent:db1', action: 'backup.open' })
    } finally {
      channel.close()
    }
  })

  test('on the enrolment listener it gives nobody an identity', async () => {
    const channel = enrolmentChannel(parseAddress(plane.enrolment), identity.authorityPem)
    try {
      const metadata = Metadata({ 'holdfast-peer-certificate-bin': new X509Certificate(identity.chainPem).raw })
      await expect(
        clientsOn(channel, systemClock).enrolment.enroll({ token: 'x', csrPem: '', ageRecipient: '' }, { metadata }),
      ).rejects.toMatchObject({ code: 'invalid_argument' })
      expect(fleet.audit.at(-1)?.actor).toMatch(/^anonymous:/)
    } finally {
      channel.close()
    }
  })
})

describe('the certificate of the listeners', () => {
  test('is renewed while they run', async () => {
    const clock = new FakeClock(new Date())
    const long = await TestFleet.start(clock)
    try {
      const { servers, agents, enrolment } = await long.plane({ settings: { pollMs: 10 * 86_400_000 } })
      const first = servers.certificate()
      await clock.advance(59 * 86_400_000)
      expect(servers.certificate().serial).toBe(first.serial)
      await clock.advance(3 * 86_400_000)
      await waitFor('the new one', () => servers.certificate().serial !== first.serial)
      const next = servers.certificate()
      expect(next.notAfter.getTime() - first.notAfter.getTime()).toBeGreaterThan(59 * 86_400_000)
      for (const address of [agents, enrolment]) expect(await shownSerial(address)).toBe(next.serial)
    } finally {
      await long.dispose()
    }
  })
})

describe('every rpc has a row', () => {
  const served = [
    EnrolmentServiceDefinition,
    IdentityServiceDefinition,
    SessionServiceDefinition,
    ObjectServiceDefinition,
    HealthDefinition,
  ]

  test('a registered rpc without a row stops the start', async () => {
    for (const path of served.flatMap(pathsOf)) {
      const { [path]: _, ...policy } = RPC_POLICY
      await expect(fleet.plane({ policy }), path).rejects.toMatchObject({
        code: 'internal',
        message: expect.stringContaining(path),
      })
    }
  })

  test('no row speaks of an rpc that is not there', () => {
    const reflection = '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo'
    expect(Object.keys(RPC_POLICY).sort()).toEqual([...served.flatMap(pathsOf), reflection].sort())
  })

  test('how often a caller may call is counted by caller', async () => {
    const channel = agentsChannel(identity, parseAddress(plane.agents))
    const { objects } = clientsOn(channel, systemClock)
    try {
      const codes = new Set<string>()
      for (let n = 0; n < 70; n++) {
        const error = await objects.openBackups({ jobId: 'j', attempt: 1, recipient: '' }).then(
          () => null,
          (thrown: { code: string }) => thrown,
        )
        codes.add(error?.code ?? 'none')
      }
      expect(codes).toEqual(new Set(['attempt_fenced', 'rate_limited']))
      const limited = fleet.audit.filter((event) => event.detail.code === 'rate_limited')
      expect(limited, 'one entry for all of them').toHaveLength(1)
    } finally {
      channel.close()
    }
  })
})

describe('health and reflection', () => {
  test('both listeners answer, and name their services', async () => {
    for (const channel of [
      agentsChannel(identity, parseAddress(plane.agents)),
      enrolmentChannel(parseAddress(plane.enrolment), identity.authorityPem),
    ]) {
      try {
        const health: HealthClient = createClientFactory().create(HealthDefinition, channel)
        expect((await health.check({ service: '' })).status).toBe(1)
        await expect(health.check({ service: 'nobody' })).rejects.toThrow('NOT_FOUND')
        const services = await reflected(channel)
        expect(services).toContain('grpc.health.v1.Health')
        expect(services.some((name) => name.startsWith('holdfast.agent.v1.'))).toBe(true)
      } finally {
        channel.close()
      }
    }
  })
})

describe('unary calls are checked one by one', () => {
  test('a revoked agent is refused at its next call, with the reason on both sides and in the audit trail', async () => {
    const { identity: gone } = await fleet.enrolled(plane, 'gone')
    const channel = agentsChannel(gone, parseAddress(plane.agents))
    const { objects } = clientsOn(channel, systemClock)
    const call = () => objects.signPuts({ jobId: 'j', attempt: 1, objects: [] })
    try {
      await expect(call()).rejects.toMatchObject({ code: 'attempt_fenced' })
      await revokeAgent(fleet, { name: 'gone', reason: 'the host was sold' })
      await expect(call()).rejects.toMatchObject({ code: 'certificate_revoked', message: expect.stringContaining('sold') })
      await expect(call()).rejects.toMatchObject({ code: 'certificate_revoked' })
      const refusals = fleet.audit.filter((event) => event.detail.code === 'certificate_revoked')
      expect(refusals).toHaveLength(1)
      expect(refusals[0]).toMatchObject({ outcome: 'refused', detail: { reason: expect.stringContaining('sold') } })
    } finally {
      channel.close()
    }
  })

  test('a message over the limit is refused, and the connection lives on', async () => {
    const channel = enrolmentChannel(parseAddress(plane.enrolment), identity.authorityPem)
    const { enrolment } = clientsOn(channel, systemClock)
    try {
      const huge = enrolment.enroll({ token: 'x'.repeat(250 * 1024), csrPem: 'x'.repeat(8000), ageRecipient: '' })
      await expect(huge).rejects.toMatchObject({ code: 'too_large' })
      await expect(enrolment.challenge({ chainPem: 'x' })).rejects.toMatchObject({ code: 'unauthenticated' })
    } finally {
      channel.close()
    }
  })
})

function shownSerial(address: string): Promise<string> {
  const { host, port } = parseAddress(address)
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port, rejectUnauthorized: false }, () => {
      resolve(socket.getPeerX509Certificate()?.serialNumber.toLowerCase() ?? 'none')
      socket.destroy()
    })
    socket.once('error', reject)
  })
}

async function reflected(channel: Channel): Promise<string[]> {
  const request = new ServerReflectionRequest()
  request.setListServices('')
  const client = createClientFactory().create(ServerReflectionService, channel)
  const asked = (async function* () {
    yield request
  })()
  for await (const answer of client.serverReflectionInfo(asked)) {
    return (
      answer
        .getListServicesResponse()
        ?.getServiceList()
        .map((service) => service.getName()) ?? []
    )
  }
  return []
}
