import type { CallDeps } from '../../../agent/jobs/job-calls.ts'
import { checkFacts } from '../../../control-plane/usecases/check-facts.ts'
import { checkStore } from '../../../control-plane/usecases/commit-backup.ts'
import { compareStored } from '../../../control-plane/usecases/stored-object.ts'
import { wireAddress } from '../../../control-plane/usecases/wire-address.ts'
import { HoldfastError } from '../../../shared/errors.ts'
import { BackupKind, type BackupRef, type JobCommand } from '../../../shared/generated/holdfast/agent/v1/jobs.ts'
import type { ObjectToPut, SignGetsRequest, SignPutsRequest } from '../../../shared/generated/holdfast/agent/v1/objects.ts'
import { parseJson } from '../../../shared/json.ts'
import { type BackupPlaceRef, manifestKey, objectKey } from '../../../shared/manifest/layout.ts'
import { type Manifest, signedFactsSchema } from '../../../shared/manifest/manifest.ts'
import { verifyManifest, verifySignedFacts } from '../../../shared/manifest/verify.ts'
import { openDataKeys, sealDataKeys } from '../../../shared/repository/keys.ts'
import type { TestFleet } from '../../../shared/repository/testing/fleet.ts'
import type { Secret } from '../../../shared/secret.ts'
import type { StorageTarget } from '../../../shared/storage/target.ts'

export interface Committed {
  readonly ref: BackupPlaceRef
  readonly manifest: Manifest
  readonly bytes: Buffer
  readonly sha256: Buffer
}

/** What a control plane does to the data path, with its own checks and without a catalog: addresses, the commit, the keys of what is read. */
export class DataPathControlPlane {
  readonly fleet: TestFleet
  readonly target: StorageTarget
  readonly committed = new Map<string, Committed>()
  /** Told of each call before it is answered, and of a commit again after it. */
  heard: (call: keyof CallDeps['objects'] | 'committed') => void = () => undefined
  #running: JobCommand | null = null
  #ledgerOf = ''
  /** Objects of the running backup, or of the last one, that addresses were given for. */
  readonly #ledger = new Map<string, { size: number; sha256: Buffer }>()

  constructor(fleet: TestFleet, target: StorageTarget) {
    this.fleet = fleet
    this.target = target
  }

  /** The attempt that may ask from now on; null: none. */
  run(command: JobCommand | null): void {
    this.#running = command
    if (!command || command.jobId === this.#ledgerOf) return
    this.#ledger.clear()
    this.#ledgerOf = command.jobId
  }

  async answer(method: keyof CallDeps['objects'], request: unknown): Promise<unknown> {
    this.heard(method)
    const { jobId, attempt } = request as { jobId: string; attempt: number }
    const command = this.#running
    if (command?.jobId !== jobId || command.attempt !== attempt) throw fenced({ jobId, attempt })
    switch (method) {
      case 'signPuts':
        return this.#signPuts(command, (request as SignPutsRequest).objects)
      case 'signGets':
        return this.#signGets((request as SignGetsRequest).objects)
      case 'openBackups':
        return this.#openBackups(command, (request as { recipient: string }).recipient)
      case 'commitBackup':
        return this.#commit(command, (request as { facts: Uint8Array }).facts)
      default:
        throw new HoldfastError('not_supported', `nothing here answers ${method}`)
    }
  }

  /** See sign-puts.ts of the control plane. */
  async #signPuts(command: JobCommand, objects: readonly ObjectToPut[]) {
    const requests = await Promise.all(
      objects.map(async ({ name, size, sha256 }) => {
        const wanted = { size: Number(size), sha256: Buffer.from(sha256) }
        const key = objectKey(backupOf(command), name)
        const stored = this.#ledger.has(name) ? await compareStored(this.target, key, wanted) : 'absent'
        if (stored !== 'same' && stored !== 'absent')
          throw new HoldfastError('object_conflict', `${key} is in the store with other bytes`, { retry: true })
        this.#ledger.set(name, wanted)
        return wireAddress(await this.target.signPut(key, wanted), stored === 'same')
      }),
    )
    return { requests }
  }

  async #signGets(objects: SignGetsRequest['objects']) {
    return { requests: await Promise.all(objects.map(async ({ key }) => wireAddress(await this.target.signGet(key)))) }
  }

  async #commit(command: JobCommand, bytes: Uint8Array) {
    const backup = backupOf(command)
    const done = this.committed.get(backup.id)
    if (done) return { manifestSha256: done.sha256 }
    const work = command.work?.$case === 'backup' ? command.work.value : null
    if (!work) throw new HoldfastError('job_state', 'the job makes no backup')
    const signed = signedFactsSchema.parse(parseJson(Buffer.from(bytes)))
    verifySignedFacts(signed)
    const mayLeanOn = [work.base, ...work.leanedOn].flatMap((ref) => (ref ? [ref] : []))
    checkFacts(signed.facts, {
      ...backup,
      fleetId: this.fleet.fleetId,
      engine: signed.facts.engine,
      attempt: command.attempt,
      type: TYPES[work.kind] ?? 'full',
      recipients: work.recipients,
      mayLeanOn: new Map(mayLeanOn.map(({ id, manifestSha256 }) => [id, Buffer.from(manifestSha256).toString('hex')])),
      ledger: this.#ledger,
    })
    await checkStore(backup, signed.facts, this.target)
    // an attempt that was given up meanwhile commits nothing: what the catalog's transaction sees to
    if (this.#running !== command) throw fenced(command)
    const manifest = this.fleet.commit(signed.facts, 1, signed)
    const key = manifestKey(backup)
    const stored = this.fleet.objects.objects.get(key) ?? Buffer.alloc(0)
    const { sha256 } = verifyManifest(stored, { verifyingKey: this.fleet.verifyingKey })
    this.committed.set(backup.id, { ref: backup, manifest, bytes: stored, sha256 })
    await this.target.put(key, stored, { sha256 })
    this.heard('committed')
    return { manifestSha256: sha256 }
  }

  async #openBackups(command: JobCommand, recipient: string) {
    const work = command.work?.$case === 'restore' ? command.work.value : null
    const refs = [work?.backup, ...(work?.leanedOn ?? [])].flatMap((ref) => (ref ? [ref] : []))
    const backups = await Promise.all(
      refs.map(async (backup) => {
        const { ref, manifest, bytes } = this.of(backup.id)
        const keys = await this.keys(manifest)
        return { backup, manifest: bytes, keys: [await sealDataKeys(ref, keys, [recipient])] }
      }),
    )
    return { backups }
  }

  of(id: string): Committed {
    const committed = this.committed.get(id)
    if (committed) return committed
    throw new HoldfastError('object_missing', `backup ${id} has no manifest`)
  }

  /** The data keys that the manifest names. */
  async keys({ facts }: Manifest): Promise<Array<{ attempt: number; dataKey: Secret<Buffer> }>> {
    const names = [...new Set(facts.keys.map(({ name }) => name))]
    const opened = await Promise.all(
      names.map(async (name) => openDataKeys(await this.target.get(objectKey(facts, name)), [this.fleet.identity], name)),
    )
    return opened.flatMap(({ keys }) => keys).filter(({ attempt }) => facts.keys.some((key) => key.attempt === attempt))
  }

  wireRef(id: string): BackupRef {
    const { ref, sha256 } = this.of(id)
    return { ...ref, manifestSha256: sha256 }
  }
}

const fenced = ({ jobId, attempt }: { jobId: string; attempt: number }): HoldfastError =>
  new HoldfastError('attempt_fenced', `attempt ${attempt} of job ${jobId} is not the one that runs`)

const TYPES: Readonly<Record<number, 'full' | 'incremental' | 'differential'>> = {
  [BackupKind.INCREMENTAL]: 'incremental',
  [BackupKind.DIFFERENTIAL]: 'differential',
}

function backupOf({ work }: JobCommand): BackupPlaceRef {
  const backup = work?.$case === 'backup' ? work.value.backup : undefined
  if (!backup) throw new HoldfastError('job_state', 'the job has no backup')
  return { host: backup.host, source: backup.source, id: backup.id }
}
