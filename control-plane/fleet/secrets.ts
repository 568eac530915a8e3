import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, randomBytes, X509Certificate } from 'node:crypto'
import { z } from 'zod'
import { newAgeIdentity, openWith, recipientOf, sealArmoured } from '../../shared/age/age.ts'
import { HoldfastError } from '../../shared/errors.ts'
import { readJson } from '../../shared/json.ts'
import { verifyingKeyText } from '../../shared/manifest/verifying-key.ts'
import { Secret } from '../../shared/secret.ts'
import { newAuthority } from '../../shared/x509/authority.ts'
import type { KeyService } from '../keys/key-service.ts'
import type { SealedKey } from './record.ts'

/** What makes a fleet this fleet. Each is sealed by itself, under its name, so that one cannot be put in another's place. */
export const KEY_NAMES = ['authority', 'signing', 'identity', 'addresses'] as const
export type KeyName = (typeof KEY_NAMES)[number]

export interface FleetSecrets {
  /** Signs certificates: ECDSA P-256, PKCS#8 PEM. */
  readonly authority: Secret<Buffer>
  /** Signs manifests: Ed25519, PKCS#8 PEM. */
  readonly signing: Secret<Buffer>
  /** The age identity that backups are sealed to. */
  readonly identity: Secret<Buffer>
  /** 32 bytes: signs the local target's addresses. */
  readonly addresses: Secret<Buffer>
}

export type FleetPublic = Readonly<Record<KeyName, string>>

export async function newFleetSecrets(fleetId: string, now: Date): Promise<{ secrets: FleetSecrets; public: FleetPublic }> {
  const authority = await newAuthority(fleetId, now)
  const signing = generateKeyPairSync('ed25519')
  const identity = await newAgeIdentity()
  return {
    secrets: {
      authority: pkcs8(authority.privateKey),
      signing: pkcs8(signing.privateKey),
      identity: new Secret(Buffer.from(identity.reveal())),
      addresses: new Secret(randomBytes(32)),
    },
    public: {
      authority: authority.certificatePem,
      signing: verifyingKeyText(signing.publicKey),
      identity: await recipientOf(identity),
      addresses: 'hmac-sha256',
    },
  }
}

const pkcs8 = (key: KeyObject) => new Secret(Buffer.from(key.export({ type: 'pkcs8', format: 'pem' })))

/** Sealed twice: by the key service for every start, and to the recovery recipients for the day when it is gone. */
export async function sealKeys(
  fleet: { secrets: FleetSecrets; public: FleetPublic; fleetId: string },
  keyService: KeyService,
  recoveryRecipients: readonly string[],
  createdAt: Date,
): Promise<SealedKey[]> {
  return Promise.all(
    KEY_NAMES.map(async (name) => {
      const secret = fleet.secrets[name]
      const inside = JSON.stringify({ fleet_id: fleet.fleetId, name, secret: secret.reveal().toString('base64') })
      return {
        name,
        publicPart: fleet.public[name],
        protectedPart: await keyService.protect(`${fleet.fleetId}/${name}`, secret),
        recoveryPart: await sealArmoured(recoveryRecipients, Buffer.from(inside)),
        createdAt,
      }
    }),
  )
}

export async function openByKeyService(fleetId: string, keys: readonly SealedKey[], service: KeyService): Promise<FleetSecrets> {
  return openEach(keys, (key) => service.reveal(`${fleetId}/${key.name}`, key.protectedPart))
}

const recoveryPartSchema = z.object({ fleet_id: z.string(), name: z.string(), secret: z.base64() })

/** For the day when the key service is gone. */
export async function openByRecovery(fleetId: string, keys: readonly SealedKey[], identity: Secret): Promise<FleetSecrets> {
  return openEach(keys, async (key) => {
    const inside = readJson(await openWith([identity], key.recoveryPart), recoveryPartSchema)
    if (!inside.success || inside.data.fleet_id !== fleetId || inside.data.name !== key.name) throw mismatch(key.name)
    return new Secret(Buffer.from(inside.data.secret, 'base64'))
  })
}

async function openEach(keys: readonly SealedKey[], open: (key: SealedKey) => Promise<Secret<Buffer>>): Promise<FleetSecrets> {
  const one = async (name: KeyName) => {
    const key = keys.find((candidate) => candidate.name === name)
    if (!key) throw new HoldfastError('key_missing', `the fleet's key ${name} is not there`, { hint: RECOVER })
    const secret = await open(key)
    // whoever can write the catalog must not get another public part believed
    if ((await publicPartOf(name, secret, key.publicPart)) !== key.publicPart) throw mismatch(name)
    return secret
  }
  const [authority, signing, identity, addresses] = await Promise.all([
    one('authority'),
    one('signing'),
    one('identity'),
    one('addresses'),
  ])
  return { authority, signing, identity, addresses }
}

/** The public part that belongs to the secret; `claimed` is returned where it can only be checked, not derived. */
async function publicPartOf(name: KeyName, secret: Secret<Buffer>, claimed: string): Promise<string | null> {
  switch (name) {
    case 'authority':
      return new X509Certificate(claimed).checkPrivateKey(createPrivateKey(secret.reveal())) ? claimed : null
    case 'signing':
      return verifyingKeyText(createPublicKey(createPrivateKey(secret.reveal())))
    case 'identity':
      return recipientOf(new Secret(secret.reveal().toString('utf8')))
    case 'addresses':
      return secret.reveal().length === 32 ? claimed : null
  }
}

const RECOVER = 'Recover the keys with a recovery identity and the object holdfast-keys.json of a target.'

const mismatch = (name: string) =>
  new HoldfastError('object_damaged', `the fleet's key ${name} does not belong to its public part`, { hint: RECOVER })
