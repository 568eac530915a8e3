import { createHash, createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto'
import { mkdir, readFile, rm } from 'node:fs/promises'
import path from 'node:path'
import { z } from 'zod'
import { syncFolder, writeDurably } from '../../shared/durable-file.ts'
import { HoldfastError } from '../../shared/errors.ts'
import { NAME } from '../../shared/ids.ts'
import { readJson } from '../../shared/json.ts'
import { Secret } from '../../shared/secret.ts'
import { newKeyPair } from '../../shared/x509/key-pair.ts'
import { readChain } from '../../shared/x509/read.ts'

/**
 * Who this agent is, in `identity/` of its home: `identity.json` is one file, so that a key and the certificate made for it
 * change in one step, and `next.json` holds the key that a request under way was made with: a lost reply is asked for again
 * with the same key, and nothing else would be answered.
 */

export interface AgentIdentity {
  readonly agentId: string
  readonly name: string
  readonly fleetId: string
  /** `hfv1...`: manifests are checked with it. */
  readonly verifyingKey: string
  readonly authorityPem: string
  /** Leaf first, authority last. */
  readonly chainPem: string
  readonly generation: number
  /** ECDSA P-256: mutual TLS, and the facts of backups. */
  readonly privateKey: KeyObject
  /** age identity: opens the `index` of this host's backups. */
  readonly ageIdentity: Secret
  readonly ageRecipient: string
  /** host:port of the agents' listener and of the enrolment listener. */
  readonly agentsAddress: string
  readonly enrolmentAddress: string
  /** By the certificate itself; the control plane's clock. */
  readonly notBefore: Date
  readonly notAfter: Date
}

const address = z.string().regex(/^\S{1,300}:\d{1,5}$/)

const fileSchema = z.strictObject({
  format: z.literal(1),
  agent_id: z.string().max(64),
  name: z.string().regex(NAME),
  fleet_id: z.string().max(64),
  verifying_key: z.string().max(200),
  agents_address: address,
  enrolment_address: address,
  generation: z.number().int().positive(),
  age_recipient: z.string().max(200),
  age_identity: z.string().max(200),
  authority: z.string().max(20_000),
  chain: z.string().max(60_000),
  private_key: z.string().max(5000),
})

const nextSchema = z.strictObject({
  format: z.literal(1),
  /** What the key was made for: `renew N` or `enrol SHA-256-of-the-token`. */
  purpose: z.string().max(200),
  private_key: z.string().max(5000),
  age_identity: z.string().max(200).optional(),
})

const folderOf = (home: string) => path.join(home, 'identity')
const identityFile = (home: string) => path.join(folderOf(home), 'identity.json')
const nextFile = (home: string) => path.join(folderOf(home), 'next.json')

/** Null when this home was never enrolled. */
export async function readIdentity(home: string): Promise<AgentIdentity | null> {
  const found = await readIdentityFile(identityFile(home), fileSchema)
  if (!found) return null
  const leaf = readChain(found.chain)?.[0]
  const privateKey = createPrivateKey(found.private_key)
  if (!leaf?.checkPrivateKey(privateKey)) throw damaged(identityFile(home))
  return {
    agentId: found.agent_id,
    name: found.name,
    fleetId: found.fleet_id,
    verifyingKey: found.verifying_key,
    authorityPem: found.authority,
    chainPem: found.chain,
    generation: found.generation,
    privateKey,
    ageIdentity: new Secret(found.age_identity),
    ageRecipient: found.age_recipient,
    agentsAddress: found.agents_address,
    enrolmentAddress: found.enrolment_address,
    notBefore: leaf.validFromDate,
    notAfter: leaf.validToDate,
  }
}

export async function requireIdentity(home: string): Promise<AgentIdentity> {
  const identity = await readIdentity(home)
  if (identity) return identity
  throw new HoldfastError('unauthenticated', `this agent is not enrolled (${folderOf(home)} holds no identity)`, {
    hint: 'Run the `holdfast-agent configure` command that `holdfast agents invite` prints.',
  })
}

/** In one step, and there after a power cut: a certificate that was issued and lost here would leave the agent a generation behind. */
export async function storeIdentity(home: string, identity: AgentIdentity): Promise<void> {
  const body: z.input<typeof fileSchema> = {
    format: 1,
    agent_id: identity.agentId,
    name: identity.name,
    fleet_id: identity.fleetId,
    verifying_key: identity.verifyingKey,
    agents_address: identity.agentsAddress,
    enrolment_address: identity.enrolmentAddress,
    generation: identity.generation,
    age_recipient: identity.ageRecipient,
    age_identity: identity.ageIdentity.reveal(),
    authority: identity.authorityPem,
    chain: identity.chainPem,
    private_key: pemOf(identity.privateKey),
  }
  await makeFolder(home)
  await writeDurably(identityFile(home), `${JSON.stringify(body, null, 2)}\n`)
  await rm(nextFile(home), { force: true })
}

/** The chain as the control plane sent it, with what its leaf says. Throws unless it is for this key and from this authority. */
export function certified(
  chainPem: string,
  authorityPem: string,
  privateKey: KeyObject,
): Pick<AgentIdentity, 'chainPem' | 'authorityPem' | 'notBefore' | 'notAfter'> {
  const leaf = readChain(chainPem)?.[0]
  const authority = readChain(authorityPem)?.[0]
  const good = leaf && authority?.ca && leaf.checkPrivateKey(privateKey) && leaf.verify(authority.publicKey)
  if (!good) {
    throw new HoldfastError('unauthenticated', 'the control plane answered with a certificate that is not for this agent', {
      hint: 'Enrol the host again; if it stays, the control plane is faulty.',
    })
  }
  return { chainPem, authorityPem, notBefore: leaf.validFromDate, notAfter: leaf.validToDate }
}

export interface PendingKey {
  readonly privateKey: KeyObject
  readonly publicKey: KeyObject
  readonly ageIdentity: Secret | undefined
}

/** The key for a request with this purpose: the same one until its answer is stored. On disk before it is returned. */
export async function pendingKey(home: string, purpose: string, newAge?: () => Promise<Secret>): Promise<PendingKey> {
  const found = await readIdentityFile(nextFile(home), nextSchema)
  if (found?.purpose === purpose) {
    const privateKey = createPrivateKey(found.private_key)
    const ageIdentity = found.age_identity === undefined ? undefined : new Secret(found.age_identity)
    return { privateKey, publicKey: createPublicKey(privateKey), ageIdentity }
  }
  const pair = await newKeyPair()
  const ageIdentity = await newAge?.()
  const body: z.input<typeof nextSchema> = {
    format: 1,
    purpose,
    private_key: pemOf(pair.privateKey),
    age_identity: ageIdentity?.reveal(),
  }
  await makeFolder(home)
  await writeDurably(nextFile(home), `${JSON.stringify(body, null, 2)}\n`)
  return { ...pair, ageIdentity }
}

export const enrolmentPurpose = (token: Secret): string => `enrol ${createHash('sha256').update(token.reveal()).digest('hex')}`
export const renewalPurpose = (identity: AgentIdentity): string => `renew ${identity.agentId} ${identity.generation + 1}`

async function makeFolder(home: string): Promise<void> {
  await mkdir(folderOf(home), { recursive: true, mode: 0o700 })
  await syncFolder(home)
}

async function readIdentityFile<T>(file: string, schema: z.ZodType<T>): Promise<T | null> {
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null
    throw error
  })
  if (text === null) return null
  const parsed = readJson(text, schema)
  if (parsed.success) return parsed.data
  throw damaged(file, parsed.error)
}

const damaged = (file: string, cause?: unknown) =>
  new HoldfastError('invalid_config', `${file} is damaged`, {
    hint: 'Enrol the host again with `holdfast agents invite --replace`; its sources and backups stay.',
    cause,
  })

const pemOf = (key: KeyObject): string => key.export({ type: 'pkcs8', format: 'pem' }) as string
