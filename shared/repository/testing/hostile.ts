import { randomBytes } from 'node:crypto'
import { zstdCompressSync } from 'node:zlib'
import { sealTo } from '../../age/age.ts'
import { objectKey } from '../../manifest/layout.ts'
import type { Facts, Manifest } from '../../manifest/manifest.ts'
import { openContents } from '../contents.ts'
import type { DirectoryRow } from '../directory.ts'
import { writeDirectory } from '../directory.ts'
import {
  type BlockKind,
  CONTENTS_MAGIC,
  contentsKey,
  INDEX_MAGIC,
  indexKeyOf,
  NUMBER,
  PACK_MAGIC,
  packDataKey,
  packIndexKey,
  sha256,
  TAG_BYTES,
} from '../format.ts'
import { openIndex } from '../index-object.ts'
import { openDataKeys } from '../keys.ts'
import { rebuildKnown } from '../known-rebuild.ts'
import { PACK_TRAILER, PackOpener } from '../pack.ts'
import { openReader } from '../reader.ts'
import type { ObjectError } from '../repository.ts'
import { type SealPlace, seal } from '../sealer.ts'
import { openWholePack } from '../whole-pack.ts'
import { entries, file, pieces, seededBytes } from './content.ts'
import { TestFleet } from './fleet.ts'
import { temporaryFolder } from './temporary-folders.ts'

/**
 * A backup taken apart into the plaintext of its parts, any of which can be changed before it is sealed and signed again: what someone writes who
 * holds the keys of a host, or the recipients of a backup. Its readers have to refuse it.
 */
export interface Parts {
  readonly artifacts: Buffer
  readonly body: Buffer
  readonly chunkPage: Buffer
  readonly treePage: Buffer
  readonly directory: Buffer
  readonly footer: Buffer
  readonly contentsJson: Buffer
  readonly indexJson: Buffer
  readonly keysJson: Buffer
}

interface Block {
  readonly kind: BlockKind
  readonly plain: Buffer
  readonly part: keyof Parts | null
}

const chunking = { kind: 'content-defined', averageBytes: 4096 } as const

export class HostileBackup {
  readonly #fleet: TestFleet
  readonly #facts: Facts
  readonly #dataKey: Buffer
  /** Of the one pack, sealed with a salt of ours. */
  readonly #blocks: readonly Block[]
  readonly parts: Parts

  private constructor(fleet: TestFleet, facts: Facts, dataKey: Buffer, blocks: readonly Block[], parts: Parts) {
    this.#fleet = fleet
    this.#facts = facts
    this.#dataKey = dataKey
    this.#blocks = blocks
    this.parts = parts
  }

  static async take(): Promise<HostileBackup> {
    const fleet = await TestFleet.create()
    const files = Array.from({ length: 60 }, (_, n) => file({ path: `directory/file ${n}`, bytes: seededBytes(n, 50) }))
    const { facts } = await fleet.backup(0, async (sink) => {
      await sink.stream({ name: 'stream', chunking, compressible: false }, pieces(seededBytes(1, 30_000)))
      await sink.tree({ name: 'tree', chunking }, entries(files))
    })
    const get = (name: string) => fleet.objects.objects.get(objectKey(facts, name)) as Buffer
    const [row] = (await openDataKeys(get('keys/1'), [fleet.identity])).keys
    const dataKey = row?.dataKey.reveal() as Buffer
    const name = facts.objects.find((object) => object.name.startsWith('packs/'))?.name as string
    const keys = { dataKey, indexKey: indexKeyOf(dataKey, facts, 1) }
    const pack = get(name)
    const opener = new PackOpener({ backup: facts, attempt: 1, object: name }, keys, pack.subarray(-PACK_TRAILER))
    const blocks: Array<Block> = []
    const rows: DirectoryRow[] = []
    const of = await openWholePack(opener, pack)
    for (let number = 0; number < of.blocks; number++) {
      const kind = of.kind(number)
      const plain = await opener.block(of, number, pack.subarray(of.offset(number), of.end(number)))
      const count = of.chunksOf(number)
      const part = kind === 'data' ? null : PAGES[(plain[0] as number) - 1]
      blocks.push({ kind, plain: Buffer.from(plain), part: part ?? null })
      const lengths = Uint32Array.from({ length: count }, (_, n) => of.chunkLength(number, n))
      const names = Buffer.concat(Array.from({ length: count }, (_, n) => of.chunkName(number, n)))
      rows.push({ kind, codec: 'stored', sealedLength: plain.length + TAG_BYTES, plainLength: plain.length, lengths, names })
    }
    const page = (part: keyof Parts) => blocks.find((block) => block.part === part)?.plain as Buffer
    const footer = Buffer.alloc(16)
    footer.writeUInt32LE(blocks.length, 8)
    footer.writeUInt32LE(of.chunks, 12)
    const json = (value: unknown) => Buffer.from(JSON.stringify(value))
    const { host, source, id } = facts
    return new HostileBackup(fleet, facts, dataKey, blocks, {
      artifacts: page('artifacts'),
      body: page('body'),
      chunkPage: page('chunkPage'),
      treePage: page('treePage'),
      directory: writeDirectory(rows),
      footer,
      contentsJson: json(openContents(get('contents/1'), facts, 1, dataKey)),
      indexJson: json(await openIndex(get('index/1'), { host, source, id }, 1, [fleet.agentIdentity])),
      keysJson: json({ format: 1, host, source, id, keys: [{ attempt: 1, key: dataKey.toString('hex') }] }),
    })
  }

  /** Everything that reads a backup, over one with these parts changed. Returns what each reader threw. */
  read(changed: Partial<Parts>): Promise<unknown[]> {
    return this.#with(changed, async (manifest) => {
      const base = { ...this.#facts, manifestSha256: this.#fleet.sha256(manifest) }
      const lists = { folder: temporaryFolder(), scratch: temporaryFolder(), agentIdentity: this.#fleet.agentIdentity }
      const signal = new AbortController().signal
      return [
        ...(await this.#restore(manifest)),
        await caught(() => rebuildKnown({ ...lists, base, objects: this.#fleet.objects, signal }).then((known) => known.close())),
      ]
    })
  }

  /** What a verification reports. */
  verify(changed: Partial<Parts>): Promise<ObjectError[]> {
    return this.#with(changed, async (manifest) => {
      const errors: ObjectError[] = []
      const reader = await openReader(await this.#fleet.readerOptions(manifest))
      await reader.verify({ onError: (error) => errors.push(error) })
      return errors
    })
  }

  async #with<T>(changed: Partial<Parts>, work: (manifest: Manifest) => Promise<T>): Promise<T> {
    const objects = this.#fleet.objects.objects
    const before = new Map(objects)
    try {
      return await work(await this.#write({ ...this.parts, ...changed }, changed))
    } finally {
      objects.clear()
      for (const [key, bytes] of before) objects.set(key, bytes)
    }
  }

  async #restore(manifest: Manifest): Promise<unknown[]> {
    const errors: unknown[] = []
    const reader = await caught(async () => openReader(await this.#fleet.readerOptions(manifest)))
    if (reader instanceof Error) return [reader]
    const open = reader as Awaited<ReturnType<typeof openReader>>
    const each = async (work: () => AsyncIterable<unknown>) => {
      errors.push(
        await caught(async () => {
          for await (const _ of work());
        }),
      )
    }
    await each(() => open.artifacts())
    await each(() => open.openStream('stream'))
    await each(async function* () {
      for await (const entry of open.openTree('tree')) if (entry.read) yield* entry.read()
    })
    errors.push(await caught(() => open.verify({ onError: () => undefined })))
    return errors
  }

  async #write(parts: Parts, changed: Partial<Parts>): Promise<Manifest> {
    const { host, source, id } = this.#facts
    const backup = { host, source, id }
    const recipients = [this.#fleet.recipient, this.#fleet.agentRecipient]
    const objects = [...this.#facts.objects]
    const put = (name: string, bytes: Buffer) => {
      const at = objects.findIndex((object) => object.name === name)
      const key = objectKey(backup, name)
      this.#fleet.objects.objects.set(key, bytes)
      objects[at] = { name, size: bytes.length, sha256: sha256(bytes).toString('hex') }
    }
    const pack = objects.find(({ name }) => name.startsWith('packs/'))?.name as string
    put(pack, this.#pack({ backup, attempt: 1, object: pack }, parts, changed))
    put('contents/1', this.#contents({ backup, attempt: 1, object: 'contents/1' }, parts.contentsJson))
    const head = Buffer.alloc(4)
    head.writeUInt32LE(parts.indexJson.length)
    put('index/1', await sealTo(recipients, Buffer.concat([INDEX_MAGIC, head, parts.indexJson])))
    put('keys/1', await sealTo(recipients, parts.keysJson))
    this.#fleet.objects.objects.delete(objectKey(backup, 'manifest.json'))
    return this.#fleet.commit({ ...this.#facts, objects }, 0)
  }

  #contents(place: SealPlace, json: Buffer): Buffer {
    const frame = zstdCompressSync(json)
    const plain = Buffer.alloc(8 + frame.length)
    plain.writeUInt32LE(frame.length, 0)
    plain.writeUInt32LE(json.length, 4)
    frame.copy(plain, 8)
    const salt = randomBytes(32)
    return Buffer.concat([CONTENTS_MAGIC, salt, seal(contentsKey(this.#dataKey, salt), place, 'contents', 0, plain)])
  }

  #pack(place: SealPlace, parts: Parts, changed: Partial<Parts>): Buffer {
    const salt = randomBytes(32)
    const dataKey = packDataKey(this.#dataKey, salt)
    const indexKey = packIndexKey(indexKeyOf(this.#dataKey, place.backup, place.attempt), salt)
    const plains = this.#blocks.map(({ plain, part }) => (part === null ? plain : (parts[part] as Buffer)))
    const sealed = plains.map((plain, n) => {
      const { kind } = this.#blocks[n] as Block
      return seal(kind === 'index' ? indexKey : dataKey, place, kind, n, plain)
    })
    const directory = Buffer.from(parts.directory)
    // pages that were changed have other lengths, which the directory has to say unless it is itself what was changed
    if (!changed.directory) {
      for (const [n, plain] of plains.entries()) {
        directory.writeUInt32LE(plain.length + TAG_BYTES, n * 14 + 2)
        directory.writeUInt32LE(plain.length, n * 14 + 6)
      }
    }
    const footer = Buffer.from(parts.footer)
    if (!changed.footer) footer.writeUInt32LE(directory.length + TAG_BYTES, 0)
    return Buffer.concat([
      PACK_MAGIC,
      ...sealed,
      seal(indexKey, place, 'directory', NUMBER.directory, directory),
      salt,
      seal(indexKey, place, 'footer', NUMBER.footer, footer),
    ])
  }
}

const PAGES = ['artifacts', 'body', 'chunkPage', 'treePage'] as const

async function caught<T>(work: () => Promise<T>): Promise<T | Error> {
  try {
    return await work()
  } catch (error) {
    return error instanceof Error ? error : new Error(`thrown: ${String(error)}`)
  }
}
