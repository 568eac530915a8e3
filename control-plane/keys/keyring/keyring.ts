import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import { HoldfastError } from '../../../shared/errors.ts'
import { randomBase32 } from '../../../shared/ids.ts'
import { Secret } from '../../../shared/secret.ts'
import { type KeyService, MAX_SECRET_BYTES, type Protected } from '../key-service.ts'
import { type KeyringFile, readKeyringFile, writeKeyringFile } from './file.ts'

/**
 * A key file beside the catalog (mode 0600), AES-256-GCM. Whoever has the catalog without this file opens nothing.
 * `rotateKey` adds a key and keeps the old ones, so that values protected before still open.
 */
export class Keyring implements KeyService {
  readonly kind = 'keyring'
  readonly local: boolean
  readonly #path: string
  #file: KeyringFile

  constructor(path: string, file: KeyringFile, local: boolean) {
    this.#path = path
    this.#file = file
    this.local = local
  }

  async protect(name: string, secret: Secret<Buffer>): Promise<Protected> {
    const plain = secret.reveal()
    if (plain.length > MAX_SECRET_BYTES) throw new HoldfastError('too_large', `secret ${name} has ${plain.length} bytes`)
    const key = this.#key(this.#file.current, name)
    // a random nonce is safe here: one key protects a handful of values in its life, far below 2^32
    const nonce = randomBytes(12)
    const cipher = createCipheriv('aes-256-gcm', key, nonce)
    cipher.setAAD(additionalData(name, this.#file.current))
    const sealed = Buffer.concat([cipher.update(plain), cipher.final(), cipher.getAuthTag()])
    return { service: 'keyring', key: this.#file.current, nonce: nonce.toString('base64'), sealed: sealed.toString('base64') }
  }

  async reveal(name: string, value: Protected): Promise<Secret<Buffer>> {
    if (value.service !== 'keyring') throw notOurs(name, `key service ${JSON.stringify(value.service)}`)
    const key = this.#key(value.key ?? '', name)
    const sealed = Buffer.from(value.sealed ?? '', 'base64')
    const nonce = Buffer.from(value.nonce ?? '', 'base64')
    if (nonce.length !== 12 || sealed.length < 16) throw damaged(name)
    const decipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: 16 })
    decipher.setAAD(additionalData(name, value.key ?? ''))
    decipher.setAuthTag(sealed.subarray(-16))
    try {
      return new Secret(Buffer.concat([decipher.update(sealed.subarray(0, -16)), decipher.final()]))
    } catch (cause) {
      throw damaged(name, cause)
    }
  }

  async rotate(name: string, value: Protected): Promise<Protected> {
    if (value.service === 'keyring' && value.key === this.#file.current) return value
    return this.protect(name, await this.reveal(name, value))
  }

  /** Makes a new key the current one. Values protected before are carried over by `rotate`. */
  async rotateKey(): Promise<void> {
    const file = await readKeyringFile(this.#path)
    if (!file)
      throw new HoldfastError('key_missing', `keyring ${this.#path} is gone`, { hint: 'Put the file back from your copy.' })
    this.#file = withNewKey(file)
    await writeKeyringFile(this.#path, this.#file, 'replace')
  }

  #key(id: string, name: string): Buffer {
    const found = this.#file.keys.find((key) => key.id === id)
    if (!found) throw notOurs(name, `key ${JSON.stringify(id.slice(0, 40))}`)
    return Buffer.from(found.key, 'base64')
  }
}

/**
 * Opens the keyring at `path`, or makes it when there is none and `create` is set. `local` is false when the operator
 * said that every control plane has this same file.
 */
export async function openKeyring(path: string, options: { create: boolean; local?: boolean }): Promise<Keyring> {
  const local = options.local ?? true
  const found = await readKeyringFile(path)
  if (found) return new Keyring(path, found, local)
  if (!options.create) {
    throw new HoldfastError('key_missing', `keyring ${path} does not exist`, {
      hint: 'Put the keyring file of this fleet there, or recover the keys with a recovery identity.',
    })
  }
  await writeKeyringFile(path, withNewKey({ format: 1, current: '', keys: [] }), 'create')
  const made = await readKeyringFile(path)
  if (!made) throw new HoldfastError('key_missing', `keyring ${path} vanished while it was made`)
  return new Keyring(path, made, local)
}

function withNewKey(file: KeyringFile): KeyringFile {
  const id = `k${randomBase32(8)}`
  return { format: 1, current: id, keys: [...file.keys, { id, key: randomBytes(32).toString('base64') }] }
}

const additionalData = (name: string, key: string) => Buffer.from(JSON.stringify(['holdfast keyring', 1, name, key]))

const notOurs = (name: string, what: string) =>
  new HoldfastError('key_missing', `the secret ${name} was protected by ${what}, which this keyring does not have`, {
    hint: 'Start with the keyring file that belongs to this catalog, or recover the keys with a recovery identity.',
  })

const damaged = (name: string, cause?: unknown) =>
  new HoldfastError('object_damaged', `the protected secret ${name} does not open: it was changed or belongs to another name`, {
    hint: 'Recover the keys with a recovery identity.',
    cause,
  })
