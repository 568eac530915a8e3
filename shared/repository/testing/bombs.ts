import { parentPort, workerData } from 'node:worker_threads'
import { zstdCompressSync } from 'node:zlib'
import { sealTo } from '../../age/age.ts'
import { isHoldfastError } from '../../errors.ts'
import { MAX_JSON_VALUES, readJson } from '../../json.ts'
import { verifyManifest } from '../../manifest/verify.ts'
import { Secret } from '../../secret.ts'
import { artifactRowSchema, openContents } from '../contents.ts'
import { CONTENTS_MAGIC, contentsKey, INDEX_MAGIC, LIMITS, MIB } from '../format.ts'
import { openIndex } from '../index-object.ts'
import { openDataKeys } from '../keys.ts'
import { seal } from '../sealer.ts'

/**
 * A thread with a small heap that decodes the largest things which a hostile backup may hold: each of the JSON parts at its limit of
 * bytes, filled with what costs most memory for a byte. It answers with the codes of the errors, or dies of its heap.
 */
const BACKUP = { host: 'h', source: 's', id: '20260101T020000Z-2dmaw5vyyr' }
const SALT = Buffer.alloc(32, 2)
const KEY = Buffer.alloc(32, 1)

const { part, filling, recipient, identity } = workerData as Record<'part' | 'filling' | 'recipient' | 'identity', string>

/** The filling again and again, # in it counted up, until the limit of values or of bytes is nearly reached. What is left of the bytes is one long text. */
function filled(bytes: number, before: string, after: string): Buffer {
  const out = Buffer.alloc(bytes, 'x')
  let at = out.write(before)
  const signs = filling.match(/[,[{]/g)?.length ?? 0
  const most = Math.floor((MAX_JSON_VALUES - 100) / (signs + 1))
  for (let n = 0; n < most && at + 2 * filling.length + after.length + 100 < bytes; n++)
    at += out.write(`${filling.replace('#', String(n))},`, at)
  at += out.write(filling.replace('#', 'last'), at)
  out.write(after, at)
  const open = at + after.length - 1
  out.write(',"rest":"', open)
  out.write('"}', bytes - 2)
  return out
}

function openFilled(before: string, after: string): void {
  const json = filled(LIMITS.head, before, after)
  const frame = zstdCompressSync(json)
  const plain = Buffer.alloc(8 + frame.length)
  plain.writeUInt32LE(frame.length, 0)
  plain.writeUInt32LE(json.length, 4)
  frame.copy(plain, 8)
  const place = { backup: BACKUP, attempt: 1, object: 'contents/1' }
  openContents(Buffer.concat([CONTENTS_MAGIC, SALT, seal(contentsKey(KEY, SALT), place, 'contents', 0, plain)]), BACKUP, 1, KEY)
}

const PARTS: Record<string, () => unknown> = {
  manifest: () => verifyManifest(filled(64 * MIB, '{"facts":{"format":1,"objects":[', ']}}')),
  contents: () => openFilled('{"format":1,"artifacts":{"count":0,"pages":[', ']}}'),
  fingerprint: () => openFilled('{"format":1,"fingerprint":{"facts":{},"counts":{', '}}}'),
  origins: () => openFilled('{"format":1,"origins":[', ']}'),
  index: async () => {
    const json = filled(LIMITS.head - MIB, '{"format":1,"chunks":[', ']}')
    const head = Buffer.alloc(4)
    head.writeUInt32LE(json.length)
    const sealed = await sealTo([recipient], Buffer.concat([INDEX_MAGIC, head, json]))
    await openIndex(sealed, BACKUP, 1, [new Secret(identity)])
  },
  keys: async () => {
    const sealed = await sealTo([recipient], filled(LIMITS.keyFile - 4096, '{"format":1,"keys":[', ']}'))
    await openDataKeys(sealed, [new Secret(identity)])
  },
  artifact: () => {
    const read = readJson(filled(LIMITS.artifactRow, '{"kind":"tree","body":{"pages":[', ']}}'), artifactRowSchema)
    if (!read.success) throw Object.assign(new Error('refused'), { refused: true })
  },
}

try {
  await PARTS[part]?.()
  parentPort?.postMessage('accepted')
} catch (error) {
  const code = isHoldfastError(error) ? error.code : (error as { refused?: boolean }).refused ? 'object_damaged' : String(error)
  parentPort?.postMessage(code)
}
