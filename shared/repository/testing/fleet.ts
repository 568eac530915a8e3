import { createPrivateKey, generateKeyPairSync, type KeyObject, randomBytes } from 'node:crypto'
import { newAgeIdentity, recipientOf } from '../../age/age.ts'
import type { BackupSink } from '../../artifacts.ts'
import { randomBase32 } from '../../ids.ts'
import type { BackupPlaceRef } from '../../manifest/layout.ts'
import { manifestKey } from '../../manifest/layout.ts'
import type { Manifest } from '../../manifest/manifest.ts'
import { commitManifest, signFacts } from '../../manifest/sign.ts'
import { verifyingKeyText } from '../../manifest/verifying-key.ts'
import { type Fingerprint, fingerprintSchema } from '../../results.ts'
import { Secret } from '../../secret.ts'
import { openDataKeys } from '../keys.ts'
import { keepKnown, openKnown } from '../known.ts'
import { openReader } from '../reader.ts'
import type { BackupReader, KnownChunks, ReaderOptions, WriterOptions, WriterTotals } from '../repository.ts'
import { openWriter } from '../writer.ts'
import { TEST_AGENT_CHAIN, TEST_AGENT_KEY } from './agent-identity.ts'
import { seededBytes } from './content.ts'
import { MemoryObjects } from './memory-objects.ts'
import { temporaryFolder } from './temporary-folders.ts'

/** A whole fleet of one source in memory: writes, signs, commits and reads backups the way agent and control plane do. */
export class TestFleet {
  readonly objects = new MemoryObjects()
  readonly fleetId = 'fleet-test'
  readonly signing: KeyObject
  readonly verifyingKey: string
  readonly identity: Secret
  readonly recipient: string
  readonly agentIdentity: Secret
  readonly agentRecipient: string
  readonly agent = { privateKey: createPrivateKey(TEST_AGENT_KEY), chainPem: TEST_AGENT_CHAIN }
  readonly knownFolder = temporaryFolder()
  readonly manifests = new Map<string, Manifest>()
  /** The same in every run: by some keys what a test writes is cut into more or larger chunks than by nearly all others. */
  gearKey = new Secret(seededBytes(1, 32))
  lastTotals: WriterTotals | null = null
  lastManifest: Manifest | null = null
  #sequence = 0

  private constructor(keys: { age: readonly [Secret, Secret]; recipients: string[] }) {
    const { publicKey, privateKey } = generateKeyPairSync('ed25519')
    this.signing = privateKey
    this.verifyingKey = verifyingKeyText(publicKey)
    this.identity = keys.age[0]
    this.agentIdentity = keys.age[1]
    this.recipient = keys.recipients[0] as string
    this.agentRecipient = keys.recipients[1] as string
  }

  static async create(): Promise<TestFleet> {
    const age = [await newAgeIdentity(), await newAgeIdentity()] as const
    const recipients = await Promise.all(age.map(recipientOf))
    return new TestFleet({ age, recipients })
  }

  place(day: number): BackupPlaceRef {
    const time = new Date(Date.UTC(2026, 0, 1 + day, 2)).toISOString().slice(0, 19).replace(/[-:]/g, '')
    return { host: 'db1', source: 'app', id: `${time}Z-${randomBase32(10)}` }
  }

  options(backup: BackupPlaceRef, more: Partial<WriterOptions> = {}): WriterOptions {
    return {
      fleetId: this.fleetId,
      backup,
      engine: 'files',
      type: 'full',
      attempt: 1,
      dataKey: new Secret(randomBytes(32)),
      earlier: [],
      recipients: [this.recipient],
      agentRecipient: this.agentRecipient,
      known: null,
      gearKey: this.gearKey,
      damagedPacks: [],
      resend: { backupIds: [], permille: 0 },
      objects: this.objects.sink(backup),
      scratch: temporaryFolder(),
      signal: new AbortController().signal,
      onProgress: () => undefined,
      ...more,
    }
  }

  /** Writes, commits and keeps the known list. `base`: of an incremental or differential. */
  async backup(
    day: number,
    write: (sink: BackupSink) => Promise<unknown>,
    more: Partial<WriterOptions> & { base?: Manifest; fingerprint?: Fingerprint } = {},
  ): Promise<Manifest> {
    const { base, fingerprint, ...rest } = more
    const known = base ? await this.known(base) : null
    const backup = rest.backup ?? this.place(day)
    const options = this.options(backup, { known, type: base ? 'incremental' : 'full', ...rest })
    const writer = await openWriter(options)
    try {
      const made = fingerprintSchema.safeParse(await write(writer))
      const facts = await writer.finish(fingerprint ?? (made.success ? made.data : { counts: { all: 1 }, facts: {} }))
      this.lastTotals = { ...writer.totals }
      const manifest = this.commit(facts, day)
      await keepKnown(options.scratch, this.knownFolder, { id: facts.id, manifestSha256: this.sha256(manifest) })
      return manifest
    } finally {
      await writer.close()
      await known?.close()
    }
  }

  commit(facts: Manifest['facts'], day: number, signed = signFacts(facts, this.agent)): Manifest {
    const committed_at = new Date(Date.UTC(2026, 0, 1 + day, 3)).toISOString()
    const predecessor = this.lastManifest ? this.sha256(this.lastManifest).toString('hex') : null
    const commit = { fleet_id: this.fleetId, committed_at, sequence: ++this.#sequence, predecessor }
    const { manifest, bytes } = commitManifest(signed, commit, this.signing)
    this.objects.put(manifestKey(facts), bytes)
    this.manifests.set(facts.id, manifest)
    this.lastManifest = manifest
    return manifest
  }

  async known(base: Manifest): Promise<KnownChunks> {
    const known = await openKnown(this.knownFolder, { id: base.facts.id, manifestSha256: this.sha256(base) })
    if (!known) throw new Error(`no known list of ${base.facts.id}`)
    return known
  }

  sha256(manifest: Manifest): Buffer {
    return commitManifest({ facts: manifest.facts, agent: manifest.agent }, manifest.commit, this.signing).sha256
  }

  async reader(manifest: Manifest): Promise<BackupReader> {
    return await openReader(await this.readerOptions(manifest))
  }

  async readerOptions(manifest: Manifest): Promise<ReaderOptions> {
    const leansOn = new Map(manifest.facts.leans_on.map(({ id }) => [id, this.manifests.get(id) as Manifest]))
    const keys = new Map<string, Secret<Buffer>>()
    for (const { facts } of [manifest, ...leansOn.values()]) {
      for (const name of new Set(facts.keys.map((key) => key.name))) {
        const file = this.objects.objects.get(`${facts.host}/${facts.source}/${facts.id}/${name}`)
        if (!file) continue
        for (const row of (await openDataKeys(file, [this.identity], `${facts.host}/${facts.source}/${facts.id}/${name}`)).keys)
          keys.set(`${facts.id}/${row.attempt}`, row.dataKey)
      }
    }
    return {
      manifest,
      leansOn,
      keys: (id, attempt) => keys.get(`${id}/${attempt}`),
      objects: this.objects,
      signal: new AbortController().signal,
    }
  }
}
