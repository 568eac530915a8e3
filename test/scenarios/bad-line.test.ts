import { createHash, randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, type TestContext, test } from 'vitest'
import { Throttle } from '../../agent/transfer/throttle.ts'
import { createTransfer, type Transfer, type TransferOptions } from '../../agent/transfer/transfer.ts'
import { startLocalServer } from '../../control-plane/storage/local-server.ts'
import { systemClock } from '../../shared/clock.ts'
import { HoldfastError } from '../../shared/errors.ts'
import type { SignedRequest } from '../../shared/generated/holdfast/agent/v1/objects.ts'
import { randomBase32 } from '../../shared/ids.ts'
import { createLogger } from '../../shared/log.ts'
import { Secret } from '../../shared/secret.ts'
import { openLocal } from '../../shared/storage/local/target.ts'
import { openTarget } from '../../shared/storage/registry.ts'
import type { SignedAddress, StorageTarget } from '../../shared/storage/target.ts'
import { selfSigned } from '../harness/certificate.ts'
import { type Fault, type FaultProxy, startFaultProxy } from '../harness/fault-proxy.ts'
import { throwAwayFolder } from '../harness/folders.ts'
import { s3Server } from '../harness/s3.ts'
import { seededFaults } from '../harness/seeded.ts'
import { waitFor } from '../harness/wait.ts'

/** An agent's objects on their way to a store, over a line that fails in every way there is. */

interface Store {
  /** The control plane's own way to the store. */
  readonly target: StorageTarget
  /** Signs addresses that lead through the proxy. */
  readonly signing: StorageTarget
  readonly proxy: FaultProxy
  stop(): Promise<void>
}

const log = createLogger({ level: 'silent' })
const clock = systemClock

async function localStore(): Promise<Store> {
  const folder = await throwAwayFolder()
  const certificate = await selfSigned()
  const key = new Secret(randomBytes(32))
  const served = await openLocal(folder.path, { name: 'primary', clock, create: true })
  const server = await startLocalServer({
    ...certificate,
    host: '127.0.0.1',
    port: 0,
    targets: [served],
    signingKey: key,
    clock,
    log,
  })
  const proxy = await startFaultProxy({ upstream: `https://127.0.0.1:${server.port}`, tls: certificate })
  const signer = { baseUrl: proxy.origin, key, serverCertificateSha256: certificate.sha256, clock }
  const signing = await openLocal(folder.path, { name: 'primary', clock, create: true, signer })
  const stop = async () => {
    await proxy.stop()
    await server.close(0)
    await folder.remove()
  }
  return { target: served, signing, proxy, stop }
}

async function s3Store(): Promise<Store | null> {
  const server = await s3Server()
  if (!server) return null
  const bucket = await server.makeBucket()
  const proxy = await startFaultProxy({ upstream: server.endpoint })
  const open = (endpoint: string) =>
    openTarget(
      { kind: 's3', bucket, region: server.region, endpoint, force_path_style: true },
      { credentials: server.credentials },
    )
  const [target, signing] = [await open(server.endpoint), await open(proxy.origin)]
  const stop = async () => {
    await Promise.all([target.close(), signing.close()])
    await proxy.stop()
    await server.stop()
  }
  return { target, signing, proxy, stop }
}

const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest()

function onTheWire(address: SignedAddress): SignedRequest {
  const { serverCertificateSha256 = Buffer.alloc(0), ...rest } = address
  return { ...rest, headers: { ...rest.headers }, serverCertificateSha256, alreadyStored: false, localSocket: '' }
}

/** Signs as a control plane does: what it was asked for before, it looks for in the store first. */
function controlPlane({ target, signing }: Store, folder: string) {
  const asked = new Set<string>()
  const signPuts: TransferOptions['signPuts'] = (objects) =>
    Promise.all(
      objects.map(async ({ name, ...object }) => {
        const key = `${folder}/${name}`
        const head = asked.has(key) ? await target.head(key) : null
        asked.add(key)
        if (!head) return onTheWire(await signing.signPut(key, object))
        if (head.size !== object.size || !head.sha256?.equals(object.sha256))
          throw new HoldfastError('object_conflict', `${key} has other bytes`)
        return {
          method: '',
          url: '',
          headers: {},
          validSeconds: 0,
          serverCertificateSha256: Buffer.alloc(0),
          alreadyStored: true,
          localSocket: '',
        }
      }),
    )
  const signGets: TransferOptions['signGets'] = (keys) =>
    Promise.all(keys.map(async (key) => onTheWire(await signing.signGet(key))))
  return { signPuts, signGets }
}

function stories(kind: string, prepare: () => Promise<Store | null>): void {
  describe(`objects over a bad line: ${kind}`, () => {
    let store: Store | null = null
    beforeAll(async () => {
      store = await prepare()
    })
    afterAll(async () => {
      await store?.stop()
    })
    const begin = (context: TestContext, limits: TransferOptions['limits'] = {}, changed: Partial<TransferOptions> = {}) => {
      if (!store) return context.skip('the service cannot be had on this machine')
      const { target, proxy } = store
      const folder = `story/${randomBase32(12)}`
      const transfer = createTransfer({ ...controlPlane(store, folder), clock, log, limits, ...changed })
      proxy.script = () => ({ kind: 'pass' })
      context.onTestFinished(() => transfer.close())
      return { target, proxy, folder, transfer }
    }
    const { signal } = new AbortController()
    const stored = async (transfer: Transfer, name: string, body: Buffer) => transfer.put(name, body, sha256(body), signal)

    test('objects go to the store and come back, whole and in ranges, over connections that stay', async (context) => {
      const { target, transfer, folder } = begin(context)
      const bodies = [Buffer.alloc(0), randomBytes(1), randomBytes(3_000_000)]
      await Promise.all(bodies.map((body, i) => stored(transfer, `packs/${i}`, body)))
      for (const [i, body] of bodies.entries()) {
        expect((await transfer.get(`${folder}/packs/${i}`, null, signal)).equals(body)).toBe(true)
        expect((await target.head(`${folder}/packs/${i}`))?.sha256).toEqual(sha256(body))
      }
      const part = await transfer.get(`${folder}/packs/2`, { offset: 1_000_000, length: 70_000 }, signal)
      expect(part.equals((bodies[2] as Buffer).subarray(1_000_000, 1_070_000))).toBe(true)
      expect(transfer.totals).toMatchObject({ sentBytes: 3_000_001, receivedBytes: 3_070_001, retries: 0 })
    })

    const ONCE: Array<[string, Fault, { method: 'PUT' | 'GET' }]> = [
      ['412 after a lost reply is not an error: the same size and SHA-256 is success', { kind: 'lose-reply' }, { method: 'PUT' }],
      ['409 is tried again', { kind: 'status', status: 409 }, { method: 'PUT' }],
      ['403 asks for a new address', { kind: 'status', status: 403 }, { method: 'PUT' }],
      ['a 412 that lies does not count as stored', { kind: 'status', status: 412 }, { method: 'PUT' }],
      ['500 is tried again', { kind: 'status', status: 500 }, { method: 'PUT' }],
      ['429 is tried again', { kind: 'status', status: 429 }, { method: 'PUT' }],
      ['a connection cut within the body is tried again', { kind: 'cut-request', afterBytes: 100_000 }, { method: 'PUT' }],
      [
        'a body changed on its way is refused by the store and sent again',
        { kind: 'flip-request', atByte: 50_000 },
        { method: 'PUT' },
      ],
      ['a torn body of an answer is read again, never given out', { kind: 'cut-reply', afterBytes: 100_000 }, { method: 'GET' }],
      ['a lost answer is asked for again', { kind: 'lose-reply' }, { method: 'GET' }],
      ['403 on reading asks for a new address', { kind: 'status', status: 403 }, { method: 'GET' }],
      ['503 on reading is tried again', { kind: 'status', status: 503 }, { method: 'GET' }],
    ]
    for (const [rule, fault, { method }] of ONCE) {
      test(rule, async (context) => {
        const { target, proxy, transfer, folder } = begin(context)
        const body = randomBytes(400_000)
        let met = 0
        proxy.script = (request) => (request.method === method && met++ === 0 ? fault : { kind: 'pass' })
        await stored(transfer, 'packs/1', body)
        expect((await transfer.get(`${folder}/packs/1`, null, signal)).equals(body)).toBe(true)
        expect((await target.get(`${folder}/packs/1`)).equals(body)).toBe(true)
        expect(met).toBeGreaterThan(0)
        expect(transfer.totals.retries).toBeGreaterThan(0)
        if (method === 'PUT' && fault.kind === 'lose-reply') expect(transfer.totals.sentBytes, 'sent once').toBe(body.length)
      })
    }

    test('other bytes under the name are object_conflict, and stay', async (context) => {
      const { target, transfer, folder } = begin(context)
      await target.put(`${folder}/packs/1`, Buffer.from('there first'))
      await expect(stored(transfer, 'packs/1', Buffer.from('here later'))).rejects.toMatchObject({ code: 'object_conflict' })
      expect((await target.get(`${folder}/packs/1`)).toString()).toBe('there first')
    })

    test('an object that is not there is object_missing at once, a short one object_damaged', async (context) => {
      const { target, transfer, folder } = begin(context)
      await expect(transfer.get(`${folder}/absent`, null, signal)).rejects.toMatchObject({ code: 'object_missing' })
      await target.put(`${folder}/short`, Buffer.from('12345'))
      for (const range of [
        { offset: 3, length: 10 },
        { offset: 100, length: 10 },
      ]) {
        await expect(transfer.get(`${folder}/short`, range, signal)).rejects.toMatchObject({ code: 'object_damaged' })
      }
      expect(transfer.totals.retries).toBe(0)
    })

    test('a store that refuses every address is target_denied after a few, and one that stays down target_unreachable', async (context) => {
      // whose patience is long: what waiting does not mend is not waited for
      const patient = begin(context, { patienceMs: 3_600_000 })
      patient.proxy.script = () => ({ kind: 'status', status: 403, body: '<Error><Code>AccessDenied</Code></Error>' })
      const denied = await stored(patient.transfer, 'a', Buffer.from('x')).catch((error) => error)
      expect(denied).toMatchObject({ code: 'target_denied' })
      expect(denied.message).toContain('AccessDenied')
      expect(denied.message).not.toMatch(/signature/i)
      patient.proxy.script = () => ({ kind: 'status', status: 507 })
      await expect(stored(patient.transfer, 'a', Buffer.from('x'))).rejects.toMatchObject({ code: 'disk_full' })
      const { proxy, transfer } = begin(context, { patienceMs: 500 })
      proxy.script = () => ({ kind: 'status', status: 503 })
      await expect(stored(transfer, 'b', Buffer.from('x'))).rejects.toMatchObject({ code: 'target_unreachable' })
    })

    test('redirects are refused, and nothing is sent to where they point', async (context) => {
      const { proxy, transfer } = begin(context)
      const elsewhere = await startFaultProxy({ upstream: proxy.origin })
      context.onTestFinished(() => elsewhere.stop())
      proxy.script = () => ({ kind: 'status', status: 307, headers: { location: `${elsewhere.origin}/taken` } })
      await expect(stored(transfer, 'a', Buffer.from('x'))).rejects.toMatchObject({ code: 'target_refused' })
      expect(elsewhere.seen).toEqual([])
    })

    test('an abort ends a put at once with its reason, and leaves nothing that is seen', async (context) => {
      const { target, proxy, transfer, folder } = begin(context)
      const stop = new AbortController()
      const reason = new Error('the job was cancelled')
      let letGo = () => {}
      const release = new Promise<void>((resolve) => {
        letGo = resolve
      })
      proxy.script = () => ({ kind: 'hold', release })
      const before = proxy.seen.length
      const body = randomBytes(1_000_000)
      const put = transfer.put('packs/1', body, sha256(body), stop.signal)
      await waitFor('the request to arrive', () => proxy.seen.length > before)
      stop.abort(reason)
      await expect(put).rejects.toBe(reason)
      expect(await target.head(`${folder}/packs/1`)).toBeNull()
      letGo()
    })

    test('a put goes on when the control plane cannot sign for a while, and ends when it says the attempt is fenced', async (context) => {
      let asked = 0
      const down: Partial<TransferOptions> = {
        signPuts: async (objects) => {
          if (++asked <= 2) throw new HoldfastError('agent_offline', 'no link')
          return Promise.all(
            objects.map(async ({ name, ...object }) =>
              onTheWire(await (store as Store).signing.signPut(`fenced/${randomBase32(8)}/${name}`, object)),
            ),
          )
        },
      }
      const { transfer } = begin(context, {}, down)
      await stored(transfer, 'a', Buffer.from('x'))
      expect(asked).toBe(3)
      const fenced = begin(
        context,
        {},
        { signPuts: async () => Promise.reject(new HoldfastError('attempt_fenced', 'attempt 1 is over')) },
      )
      await expect(stored(fenced.transfer, 'a', Buffer.from('x'))).rejects.toMatchObject({ code: 'attempt_fenced' })
    })

    test('limits hold the rates in both directions', async (context) => {
      const { transfer, folder } = begin(
        context,
        {},
        { upload: new Throttle(400_000, clock), download: new Throttle(800_000, clock) },
      )
      const body = randomBytes(400_000)
      const times = [clock.monotonicMs()]
      await stored(transfer, 'a', body)
      times.push(clock.monotonicMs())
      await transfer.get(`${folder}/a`, null, signal)
      times.push(clock.monotonicMs())
      // a quarter of a second is let through at once
      expect((times[1] ?? 0) - (times[0] ?? 0)).toBeGreaterThan(600)
      expect((times[2] ?? 0) - (times[1] ?? 0)).toBeGreaterThan(200)
    })

    for (const seed of [1, 2, 3, 4]) {
      test(`every object arrives whole through a line where a third of the requests fail (seed ${seed})`, async (context) => {
        const { target, proxy, transfer, folder } = begin(context)
        proxy.script = seededFaults(seed, 0.33)
        const bodies = Array.from({ length: 12 }, (_, i) => randomBytes(20_000 * (i + 1)))
        await Promise.all(bodies.map((body, i) => stored(transfer, `packs/${i}`, body)))
        const back = await Promise.all(bodies.map((_, i) => transfer.get(`${folder}/packs/${i}`, null, signal)))
        proxy.script = () => ({ kind: 'pass' })
        for (const [i, body] of bodies.entries()) {
          expect(back[i]?.equals(body)).toBe(true)
          expect((await target.head(`${folder}/packs/${i}`))?.sha256).toEqual(sha256(body))
        }
      })
    }
  })
}

stories('local folder', localStore)
stories('S3', s3Store)

test('nothing is sent to a server that shows another certificate than the control plane named', async (context) => {
  const store = await localStore()
  context.onTestFinished(() => store.stop())
  const impostor = await startFaultProxy({ upstream: store.proxy.origin, tls: await selfSigned() })
  context.onTestFinished(() => impostor.stop())
  const { signPuts, signGets } = controlPlane(store, 'story')
  const misled: TransferOptions['signPuts'] = async (objects, signal) =>
    (await signPuts(objects, signal)).map((signed) => ({
      ...signed,
      url: signed.url.replace(store.proxy.origin, impostor.origin),
    }))
  const transfer = createTransfer({ signPuts: misled, signGets, clock, log, limits: { patienceMs: 300 } })
  context.onTestFinished(() => transfer.close())
  const body = Buffer.from('sealed bytes')
  await expect(transfer.put('a', body, sha256(body), new AbortController().signal)).rejects.toMatchObject({
    code: 'pin_mismatch',
  })
  expect(impostor.seen).toEqual([])
})
