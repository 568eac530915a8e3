import { readFile } from 'node:fs/promises'
import path from 'node:path'
import protobuf from 'protobufjs'
import 'protobufjs/ext/descriptor.js'
import { beforeAll, describe, expect, it } from 'vitest'

/** What the messages of the wire contract can carry at all, by their descriptors. */

const PACKAGE = 'holdfast.agent.v1'
let root: protobuf.Root

beforeAll(async () => {
  const bytes = await readFile(path.resolve(import.meta.dirname, '../../shared/generated/descriptors.binpb'))
  const withDescriptors = protobuf.Root as unknown as { fromDescriptor(bytes: Uint8Array): protobuf.Root }
  root = withDescriptors.fromDescriptor(bytes)
  root.resolveAll()
})

/** Every field that can be reached from a message, as `Message.field`. */
function fieldsOf(name: string, seen = new Map<string, protobuf.Field>()): Map<string, protobuf.Field> {
  for (const field of root.lookupType(name).fieldsArray) {
    const full = `${field.parent?.name}.${field.name}`
    if (seen.has(full)) continue
    seen.set(full, field.resolve())
    if (field.resolvedType instanceof protobuf.Type) fieldsOf(field.resolvedType.fullName, seen)
  }
  return seen
}

const freeIn = (name: string): string[] =>
  [...fieldsOf(`${PACKAGE}.${name}`)].flatMap(([full, { type }]) => (type === 'string' || type === 'bytes' ? full : [])).sort()

const messages = (): protobuf.Type[] =>
  root.lookup(PACKAGE) instanceof protobuf.Namespace
    ? (root.lookup(PACKAGE) as protobuf.Namespace).nestedArray.filter((one) => one instanceof protobuf.Type)
    : []

describe('commands are typed and closed', () => {
  // names, ids, hashes, public keys. Whoever adds one has to say here that it is neither a command line, nor a path of a program,
  // nor a credential
  it('text that a command can carry is a name, an id, a label, a hash or a public key, and nothing else', () => {
    expect(freeIn('JobCommand')).toEqual([
      'BackupRef.host',
      'BackupRef.id',
      'BackupRef.manifestSha256',
      'BackupRef.source',
      'BackupWork.damagedPacks',
      'BackupWork.parts',
      'BackupWork.recipients',
      'BackupWork.resendBackupIds',
      'JobCommand.jobId',
      'PreflightWork.source',
      'RestoreWork.mapping',
      'RestoreWork.originLabels',
      'RestoreWork.parts',
      'RestoreWork.targetName',
      'RestoreWork.targetTenant',
      'RestoreWork.viaSource',
      'TestRestoreWork.viaSource',
      'VerifiedPack.name',
      'VerifiedPacks.backupId',
    ])
  })

  it('the work of a command is one of a closed set', () => {
    expect(Object.keys(root.lookupType(`${PACKAGE}.JobCommand`).oneofs)).toEqual(['work'])
    expect(root.lookupType(`${PACKAGE}.JobCommand`).oneofs.work?.oneof).toEqual([
      'backup',
      'restore',
      'verify',
      'testRestore',
      'discover',
      'preflight',
    ])
  })

  it('no message carries a type that is not closed', () => {
    expect(messages().length).toBeGreaterThan(40)
    const open = messages().flatMap(({ name }) =>
      [...fieldsOf(`${PACKAGE}.${name}`)].filter(([, { resolvedType }]) => resolvedType?.fullName.startsWith('.google.protobuf')),
    )
    expect(open).toEqual([])
  })
})

describe('credentials', () => {
  const SUSPICIOUS =
    /password|passwd|secret|credential|private|identity$|token|api_?key|access_?key|command_?line|argv|shell|script|hook/i

  it('no message has a field for one, but for the token of an invitation', () => {
    const found = messages().flatMap(({ name }) => [...fieldsOf(`${PACKAGE}.${name}`).keys()])
    expect([...new Set(found)].filter((full) => SUSPICIOUS.test(full.split('.')[1] ?? ''))).toEqual(['EnrollRequest.token'])
  })

  it('data keys come sealed to a recipient that was made for the job, and nowhere else', () => {
    const found = messages().flatMap(({ name }) => [...fieldsOf(`${PACKAGE}.${name}`).keys()])
    const keys = [...new Set(found)].filter((full) => /keys?$/i.test(full))
    expect(keys.sort()).toEqual(['EnrollResponse.verifyingKey', 'ObjectToGet.key', 'OpenedBackup.keys'])
  })
})

describe('deadlines', () => {
  it('are durations: no command and no address says a moment', () => {
    const said = ['JobCommand', 'SignPutsResponse', 'SignGetsResponse', 'Certificate'].flatMap((name) => [
      ...fieldsOf(`${PACKAGE}.${name}`).keys(),
    ])
    const ofTime = [...new Set(said)].filter((full) =>
      /second|_ms$|Ms$|expire|until|deadline|_at$|At$|time|renew/i.test(full.split('.')[1] ?? ''),
    )
    expect(ofTime.sort()).toEqual([
      'Certificate.lifetimeSeconds',
      'Certificate.renewAfterSeconds',
      'JobCommand.deadlineSeconds',
      'SignedRequest.validSeconds',
      'VerifiedPack.secondsAgo',
      'VerifyWork.olderThanSeconds',
    ])
  })
})
