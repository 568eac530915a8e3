import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import { requireRecipient } from '../../shared/age/age.ts'
import type { Clock } from '../../shared/clock.ts'
import { HoldfastError } from '../../shared/errors.ts'
import { randomBase32 } from '../../shared/ids.ts'
import { Secret } from '../../shared/secret.ts'
import type { StorageTarget } from '../../shared/storage/target.ts'
import { type IssuedCertificate, issueForAgent, issueForServer } from '../../shared/x509/authority.ts'
import { newKeyPair } from '../../shared/x509/key-pair.ts'
import { pinOf } from '../../shared/x509/read.ts'
import type { Catalog } from '../catalog/catalog.ts'
import { insertFleet, readFleet, resealFleet } from '../catalog/identity-fleet.ts'
import type { KeyService } from '../keys/key-service.ts'
import { type FleetRecord, publishRecord, readRecordFile, writeRecordFile } from './record.ts'
import { type FleetPublic, type FleetSecrets, newFleetSecrets, openByKeyService, openByRecovery, sealKeys } from './secrets.ts'

/** The fleet's authority and keys, open. One for each running control plane; all of a catalog have the same. */
export interface Fleet {
  readonly id: string
  /** Ed25519: signs manifests. */
  readonly signer: KeyObject
  readonly verifyingKeyText: string
  /** age: opens the data keys of every backup. */
  readonly identity: Secret
  readonly recipient: string
  /** 32 bytes, for addresses of the local target. */
  readonly addressKey: Secret<Buffer>
  /** PEM certificate of the authority. */
  readonly authorityPem: string
  /** `sha256:` of the authority's certificate: what invitations carry, the same for every control plane of the fleet. */
  readonly pin: string
  readonly recoveryRecipients: readonly string[]
  issueServerCertificate(hosts: readonly string[]): Promise<ServerCertificate>
  issueAgentCertificate(agent: {
    publicKey: KeyObject
    agentId: string
    name: string
    lifetimeMs: number
  }): Promise<IssuedCertificate>
  /** Takes up what another control plane changed: recovery recipients. The listeners' keeper calls it every few seconds. */
  refresh(): Promise<void>
  /** Puts holdfast.json and the sealed keys into a target. May be repeated. */
  publish(target: StorageTarget): Promise<void>
  /** From now on the fleet's keys are sealed to this age recipient as well. Publish to every target afterwards. */
  addRecoveryRecipient(recipient: string): Promise<void>
}

export interface ServerCertificate extends IssuedCertificate {
  readonly privateKeyPem: Secret<Buffer>
}

export interface FleetOptions {
  /** For `fleet.json`, the copy of the sealed keys beside the catalog. Exists. */
  readonly dataFolder: string
  /** At least one: else a lost key service would lose every backup. */
  readonly recoveryRecipients: readonly string[]
  readonly clock: Clock
  /** A lost catalog is given back its fleet from this record; opened by the key service, or by `identity`. */
  readonly rebuildFrom?: { readonly record: FleetRecord; readonly identity?: Secret }
}

/** Server certificates outlive any sensible uptime; listeners take a new one at two thirds. */
const SERVER_CERTIFICATE_MS = 90 * 86_400_000

/**
 * Opens the fleet of this catalog, or makes it at the first start. Throws `key_missing` when the key service does not have
 * its key, `conflict` when the data folder belongs to another fleet, `invalid_config` without a recovery recipient or with
 * a key service of this node alone under a shared catalog.
 */
export async function openFleet(catalog: Catalog, keyService: KeyService, options: FleetOptions): Promise<Fleet> {
  const recipients = options.recoveryRecipients.map(requireRecipient)
  refuseLocalKeys(catalog, keyService)
  const file = await readRecordFile(options.dataFolder)
  const stored = await readRecord(catalog)
  if (file && stored && file.fleetId !== stored.fleetId) {
    throw new HoldfastError('conflict', `the data folder belongs to fleet ${file.fleetId}, the catalog to ${stored.fleetId}`, {
      hint: 'Start with the data folder and the catalog of one fleet.',
    })
  }
  const { record, secrets } = await openRecord(stored ?? file, catalog, keyService, recipients, options)
  if (!stored) await putRecord(catalog, record)
  const opened = new OpenFleet(catalog, keyService, options, record, secrets)
  const missing = recipients.filter((recipient) => !record.recoveryRecipients.includes(recipient))
  // a new recipient, or a key service whose key was changed since: the same secrets are sealed anew
  if (missing.length > 0 || (await hasOlderKey(keyService, record)))
    await opened.reseal([...record.recoveryRecipients, ...missing])
  else await writeRecordFile(options.dataFolder, opened.record)
  return opened
}

async function hasOlderKey(keyService: KeyService, record: FleetRecord): Promise<boolean> {
  for (const key of record.keys) {
    const rotated = await keyService.rotate(`${record.fleetId}/${key.name}`, key.protectedPart)
    if (!isDeepStrictEqual(rotated, key.protectedPart)) return true
  }
  return false
}

/** The keys sealed in a catalog, without opening them. Null before the first start. */
export async function readRecord(catalog: Catalog): Promise<FleetRecord | null> {
  const row = await readFleet(catalog.db)
  if (!row) return null
  const { fleet, keys } = row
  return { fleetId: fleet.id, recoveryRecipients: fleet.recoveryRecipients, createdAt: fleet.createdAt, keys }
}

async function openRecord(
  found: FleetRecord | null,
  catalog: Catalog,
  keyService: KeyService,
  recipients: readonly string[],
  options: FleetOptions,
): Promise<{ record: FleetRecord; secrets: FleetSecrets }> {
  const rebuild = options.rebuildFrom
  const record = found ?? rebuild?.record
  if (!record) return createFleet(catalog, keyService, recipients, options)
  const identity = rebuild?.record.fleetId === record.fleetId ? rebuild.identity : undefined
  if (!identity) return { record, secrets: await openByKeyService(record.fleetId, record.keys, keyService) }
  // the key service is new: what the recovery identity opened is protected by it from now on
  const secrets = await openByRecovery(record.fleetId, record.keys, identity)
  const keys = await sealKeys(withSecrets(record, secrets), keyService, record.recoveryRecipients, options.clock.now())
  if (found) await catalog.transaction((tx) => resealFleet(tx, [...record.recoveryRecipients], keys))
  return { record: { ...record, keys }, secrets }
}

async function createFleet(catalog: Catalog, keyService: KeyService, recipients: readonly string[], options: FleetOptions) {
  if (recipients.length === 0) {
    throw new HoldfastError('invalid_config', 'a new fleet needs a recovery recipient', {
      hint: 'Make one with `holdfast keys new-recovery --first`, keep the identity offline and put its public key under recovery_recipients.',
    })
  }
  const now = options.clock.now()
  const fleetId = `f${randomBase32(15)}`
  const made = await newFleetSecrets(fleetId, now)
  const keys = await sealKeys({ ...made, fleetId }, keyService, recipients, now)
  const record: FleetRecord = { fleetId, recoveryRecipients: recipients, createdAt: now, keys }
  if (await putRecord(catalog, record)) return { record, secrets: made.secrets }
  // another control plane was first: its fleet is the fleet
  const winner = await readRecord(catalog)
  if (!winner) throw new HoldfastError('internal', 'the fleet vanished from the catalog while it was made')
  return { record: winner, secrets: await openByKeyService(winner.fleetId, winner.keys, keyService) }
}

function putRecord(catalog: Catalog, record: FleetRecord): Promise<boolean> {
  const row = { id: record.fleetId, recoveryRecipients: [...record.recoveryRecipients], createdAt: record.createdAt }
  return catalog.transaction((tx) => insertFleet(tx, row, record.keys))
}

function refuseLocalKeys(catalog: Catalog, keyService: KeyService): void {
  if (catalog.kind === 'embedded' || !keyService.local) return
  throw new HoldfastError('invalid_config', `the ${keyService.kind} lies on this node alone, but the catalog is shared`, {
    hint: 'Give every control plane the same keyring file and name it under keys.file, or use another key service.',
  })
}

const withSecrets = (record: FleetRecord, secrets: FleetSecrets) => ({
  fleetId: record.fleetId,
  secrets,
  public: Object.fromEntries(record.keys.map((key) => [key.name, key.publicPart])) as FleetPublic,
})

class OpenFleet implements Fleet {
  readonly id: string
  readonly signer: KeyObject
  readonly identity: Secret
  readonly addressKey: Secret<Buffer>
  readonly verifyingKeyText: string
  readonly recipient: string
  readonly authorityPem: string
  readonly pin: string
  readonly #authorityKey: KeyObject
  readonly #catalog: Catalog
  readonly #keyService: KeyService
  readonly #options: FleetOptions
  readonly #secrets: FleetSecrets
  #record: FleetRecord

  constructor(catalog: Catalog, keyService: KeyService, options: FleetOptions, record: FleetRecord, secrets: FleetSecrets) {
    const shown = withSecrets(record, secrets).public
    this.id = record.fleetId
    this.signer = createPrivateKey(secrets.signing.reveal())
    this.identity = new Secret(secrets.identity.reveal().toString('utf8'))
    this.addressKey = secrets.addresses
    this.verifyingKeyText = shown.signing
    this.recipient = shown.identity
    this.authorityPem = shown.authority
    this.pin = pinOf(new X509Certificate(shown.authority))
    this.#authorityKey = createPrivateKey(secrets.authority.reveal())
    this.#catalog = catalog
    this.#keyService = keyService
    this.#options = options
    this.#secrets = secrets
    this.#record = record
  }

  get record(): FleetRecord {
    return this.#record
  }

  get recoveryRecipients(): readonly string[] {
    return this.#record.recoveryRecipients
  }

  async issueServerCertificate(hosts: readonly string[]): Promise<ServerCertificate> {
    const { publicKey, privateKey } = await newKeyPair()
    const now = this.#options.clock.now()
    const issued = await issueForServer(this.#authority(), { publicKey, hosts, now, lifetimeMs: SERVER_CERTIFICATE_MS })
    return { ...issued, privateKeyPem: new Secret(Buffer.from(privateKey.export({ type: 'pkcs8', format: 'pem' }))) }
  }

  issueAgentCertificate(agent: Parameters<Fleet['issueAgentCertificate']>[0]): Promise<IssuedCertificate> {
    return issueForAgent(this.#authority(), { ...agent, fleetId: this.id, now: this.#options.clock.now() })
  }

  async refresh(): Promise<void> {
    const stored = await readRecord(this.#catalog)
    if (!stored || stored.fleetId !== this.id || isDeepStrictEqual(stored, this.#record)) return
    this.#record = stored
    await writeRecordFile(this.#options.dataFolder, stored)
  }

  async publish(target: StorageTarget): Promise<void> {
    // what another control plane changed a moment ago must not be put back
    await this.refresh()
    await publishRecord(target, this.#record, this.verifyingKeyText)
  }

  async addRecoveryRecipient(recipient: string): Promise<void> {
    const wanted = requireRecipient(recipient)
    await this.refresh()
    const { recoveryRecipients } = this.#record
    if (!recoveryRecipients.includes(wanted)) await this.reseal([...recoveryRecipients, wanted])
  }

  async reseal(recoveryRecipients: readonly string[]): Promise<void> {
    const fleet = withSecrets(this.#record, this.#secrets)
    const keys = await sealKeys(fleet, this.#keyService, recoveryRecipients, this.#options.clock.now())
    await this.#catalog.transaction((tx) => resealFleet(tx, [...recoveryRecipients], keys))
    this.#record = { ...this.#record, recoveryRecipients, keys }
    await writeRecordFile(this.#options.dataFolder, this.#record)
  }

  #authority() {
    return { certificatePem: this.authorityPem, privateKey: this.#authorityKey }
  }
}
