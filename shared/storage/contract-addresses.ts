import { randomBytes } from 'node:crypto'
import { request as requestPlain } from 'node:http'
import { request as requestTls } from 'node:https'
import { expect, test } from 'vitest'
import { codeOf, freshFolder, type Need, rejection, sha256 } from './contract.ts'
import { MAX_ADDRESS_SECONDS, MAX_OBJECT_BYTES, type SignedAddress, type StorageTarget } from './target.ts'

/** What a stranger holding an address can send. `cutAfter`: the connection is broken after so many bytes of the body. */
interface Sending {
  readonly method?: string
  readonly url?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: Buffer
  readonly cutAfter?: number
}

/** Raw HTTP, with nothing of a client's goodwill. Resolves with status 0 when the connection ended without an answer. */
export function sendRaw(address: SignedAddress, sending: Sending = {}): Promise<{ status: number; body: Buffer }> {
  const url = new URL(sending.url ?? address.url)
  const send = url.protocol === 'https:' ? requestTls : requestPlain
  const headers = { ...(sending.headers ?? address.headers), connection: 'close' }
  return new Promise((resolve) => {
    const options = { method: sending.method ?? address.method, headers, rejectUnauthorized: false, agent: false as const }
    const request = send(url, options, async (response) => {
      const pieces: Buffer[] = []
      try {
        for await (const piece of response) pieces.push(piece)
        resolve({ status: response.statusCode ?? 0, body: Buffer.concat(pieces) })
      } catch {
        resolve({ status: 0, body: Buffer.concat(pieces) })
      }
    })
    request.once('error', () => resolve({ status: 0, body: Buffer.alloc(0) }))
    const { body, cutAfter } = sending
    if (body && cutAfter !== undefined) request.write(body.subarray(0, cutAfter), () => request.destroy())
    else request.end(body)
  })
}

const described = (body: Buffer) => ({ size: body.length, sha256: sha256(body) })

export function addressContract(need: Need): void {
  putting(need)
  gettingAndExpiry(need)
  faults(need)
}

async function refusedAndAbsent(
  target: StorageTarget,
  key: string,
  address: SignedAddress,
  sending: Sending,
  statuses: number[],
) {
  const answer = await sendRaw(address, sending)
  expect(statuses).toContain(answer.status)
  expect(await target.head(key)).toBeNull()
}

function putting(need: Need): void {
  test('a signed address stores exactly its object, once: then it answers 412 and keeps the first', async (context) => {
    const { target } = need(context)
    const key = `${freshFolder()}/packs/1-a`
    const body = randomBytes(3 * 1024 * 1024)
    const address = await target.signPut(key, described(body))
    expect(address.method).toBe('PUT')
    expect(address.validSeconds).toBeLessThanOrEqual(MAX_ADDRESS_SECONDS)
    expect((await sendRaw(address, { body })).status).toBe(200)
    // a server that answers before it has read all and closes may lose its answer to a reset
    expect([412, 0]).toContain((await sendRaw(address, { body })).status)
    expect((await target.get(key)).equals(body)).toBe(true)
    const small = await target.signPut(`${key}-small`, described(body.subarray(0, 1000)))
    expect((await sendRaw(small, { body: body.subarray(0, 1000) })).status).toBe(200)
    expect((await sendRaw(small, { body: body.subarray(0, 1000) })).status).toBe(412)
  })

  test('of twenty puts to one address at once, one is 200', async (context) => {
    const { target } = need(context)
    const body = randomBytes(10_000)
    const address = await target.signPut(`${freshFolder()}/a`, described(body))
    const answers = await Promise.all(Array.from({ length: 20 }, () => sendRaw(address, { body })))
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(1)
    for (const { status } of answers) expect([200, 409, 412]).toContain(status)
  })

  test('a wrong body under the right checksum is refused', async (context) => {
    const { target } = need(context)
    const key = `${freshFolder()}/a`
    const body = randomBytes(10_000)
    const wrong = Buffer.from(body)
    wrong[5000] = (wrong[5000] ?? 0) ^ 1
    const address = await target.signPut(key, described(body))
    await refusedAndAbsent(target, key, address, { body: wrong }, [400])
  })

  test('a body of another length is refused, whatever its header says', async (context) => {
    const { target } = need(context)
    const key = `${freshFolder()}/a`
    const body = randomBytes(10_000)
    const address = await target.signPut(key, described(body))
    for (const other of [body.subarray(1), Buffer.concat([body, Buffer.from('x')]), Buffer.alloc(0)]) {
      const headers = { ...address.headers, 'content-length': String(other.length) }
      await refusedAndAbsent(target, key, address, { body: other, headers }, [400, 403])
    }
    const { 'content-length': _, ...rest } = address.headers
    await refusedAndAbsent(
      target,
      key,
      address,
      { body, headers: { ...rest, 'transfer-encoding': 'chunked' } },
      [400, 403, 411, 501],
    )
  })

  test('a signed header that is left out or changed is refused', async (context) => {
    const { target } = need(context)
    const key = `${freshFolder()}/a`
    const body = randomBytes(10_000)
    const address = await target.signPut(key, described(body))
    for (const name of Object.keys(address.headers).filter((header) => header !== 'content-length')) {
      const { [name]: value, ...rest } = address.headers
      await refusedAndAbsent(target, key, address, { body, headers: rest }, [400, 403])
      const changed = { ...rest, [name]: name === 'if-none-match' ? '"x"' : sha256(Buffer.from('x')).toString('base64') }
      await refusedAndAbsent(target, key, address, { body, headers: changed }, [400, 403])
    }
  })

  test('a torn body leaves nothing', async (context) => {
    const { target } = need(context)
    const key = `${freshFolder()}/a`
    const body = randomBytes(1024 * 1024)
    const address = await target.signPut(key, described(body))
    await sendRaw(address, { body, cutAfter: 500_000 })
    expect(await target.head(key)).toBeNull()
    expect((await sendRaw(address, { body })).status).toBe(200)
  })

  test('an address opens no other key, no other method, and cannot be changed', async (context) => {
    const { target } = need(context)
    const folder = freshFolder()
    const body = randomBytes(100)
    await target.put(`${folder}/there`, Buffer.from('kept'))
    const put = await target.signPut(`${folder}/mine`, described(body))
    const get = await target.signGet(`${folder}/there`)
    const swap = (url: string, to: string) => url.replace(/\/(mine|there)(?=\?)/, to)
    await refusedAndAbsent(target, `${folder}/other`, put, { body, url: swap(put.url, '/other') }, [403])
    expect((await sendRaw(get, { url: swap(get.url, '/mine') })).status).toBe(403)
    for (const method of ['GET', 'DELETE', 'POST'])
      expect([403, 405]).toContain((await sendRaw(put, { method, headers: {} })).status)
    for (const method of ['PUT', 'DELETE', 'POST']) {
      const headers = { 'content-length': String(body.length) }
      expect([403, 405]).toContain((await sendRaw(get, { method, body, headers })).status)
    }
    const later = put.url.replace(/(expires=|X-Amz-Expires=)(\d+)/i, (_, name, seconds) => name + (Number(seconds) + 1))
    await refusedAndAbsent(target, `${folder}/mine`, put, { body, url: later }, [400, 403])
    const forged = put.url.replace(/(signature=)([0-9a-f])/i, (_, name, digit) => name + (digit === '0' ? '1' : '0'))
    await refusedAndAbsent(target, `${folder}/mine`, put, { body, url: forged }, [403])
    expect((await target.get(`${folder}/there`)).toString()).toBe('kept')
  })

  test('one address per finished object of at most 64 MiB with a whole SHA-256', async (context) => {
    const { target } = need(context)
    const key = `${freshFolder()}/a`
    for (const object of [
      { size: MAX_OBJECT_BYTES + 1, sha256: Buffer.alloc(32) },
      { size: -1, sha256: Buffer.alloc(32) },
      { size: 1.5, sha256: Buffer.alloc(32) },
      { size: 1, sha256: Buffer.alloc(31) },
    ]) {
      expect(await codeOf(target.signPut(key, object))).toBe('invalid_argument')
    }
  })
}

function gettingAndExpiry(need: Need): void {
  test('an address for reading gives the whole object or the range of the Range header', async (context) => {
    const { target } = need(context)
    const key = `${freshFolder()}/a`
    const body = randomBytes(100_000)
    await target.put(key, body)
    const address = await target.signGet(key)
    expect(await sendRaw(address)).toEqual({ status: 200, body })
    const range = { ...address.headers, range: 'bytes=1000-1999' }
    expect(await sendRaw(address, { headers: range })).toEqual({ status: 206, body: body.subarray(1000, 2000) })
    expect((await sendRaw(address, { headers: { ...address.headers, range: 'bytes=100000-' } })).status).toBe(416)
    expect((await sendRaw(await target.signGet(`${key}-absent`))).status).toBe(404)
  })

  test('an address is refused after its time, for reading and for writing', async (context) => {
    const { target } = need(context)
    const { target: short, expire } = await need(context).shortLived()
    const folder = freshFolder()
    const body = randomBytes(100)
    await target.put(`${folder}/there`, body)
    const put = await short.signPut(`${folder}/late`, described(body))
    const get = await short.signGet(`${folder}/there`)
    expect((await sendRaw(get)).status).toBe(200)
    await expire()
    expect((await sendRaw(get)).status).toBe(403)
    await refusedAndAbsent(target, `${folder}/late`, put, { body }, [403])
    await short.close()
  })
}

function faults(need: Need): void {
  test('412 after a lost reply: the object is there, whole, and asked for it says so', async (context) => {
    const { faulty, target } = need(context)
    const key = `${freshFolder()}/a`
    const body = randomBytes(1000)
    const address = await faulty.target.signPut(key, described(body))
    faulty.proxy.script = () => ({ kind: 'lose-reply' })
    expect((await sendRaw(address, { body })).status).toBe(0)
    faulty.proxy.script = () => ({ kind: 'pass' })
    expect((await sendRaw(address, { body })).status).toBe(412)
    expect(await target.head(key)).toMatchObject({ size: body.length, sha256: sha256(body) })
    await target.put(key, body)
    expect(await codeOf(target.put(key, randomBytes(1000)))).toBe('object_conflict')
  })

  test('a body changed on its way is refused by the service, not stored', async (context) => {
    const { faulty, target } = need(context)
    const key = `${freshFolder()}/a`
    const body = randomBytes(500_000)
    const address = await faulty.target.signPut(key, described(body))
    faulty.proxy.script = () => ({ kind: 'flip-request', atByte: 123_456 })
    expect((await sendRaw(address, { body })).status).toBe(400)
    faulty.proxy.script = () => ({ kind: 'pass' })
    expect(await target.head(key)).toBeNull()
  })

  const OWN: Array<[string, (call: number) => { kind: string } & Record<string, unknown>]> = [
    ['a lost reply', (call) => (call === 1 ? { kind: 'lose-reply' } : { kind: 'pass' })],
    ['500 twice', (call) => (call <= 2 ? { kind: 'status', status: 500 } : { kind: 'pass' })],
    ['409 three times', (call) => (call <= 3 ? { kind: 'status', status: 409 } : { kind: 'pass' })],
    ['a 412 that lies', (call) => (call === 1 ? { kind: 'status', status: 412 } : { kind: 'pass' })],
    ['a connection cut within the body', (call) => (call === 1 ? { kind: 'cut-request', afterBytes: 1000 } : { kind: 'pass' })],
  ]
  for (const [name, plan] of OWN) {
    test(`the target's own put gets over ${name}`, async (context) => {
      const { faulty, target, ownCallsPassProxy } = need(context)
      if (!ownCallsPassProxy) return context.skip('this target is not reached over a network')
      const key = `${freshFolder()}/a`
      const body = randomBytes(100_000)
      const before = faulty.proxy.seen.length
      let puts = 0
      faulty.proxy.script = ({ method }) => (method === 'PUT' ? plan(++puts) : { kind: 'pass' })
      await faulty.target.put(key, body)
      faulty.proxy.script = () => ({ kind: 'pass' })
      expect(faulty.proxy.seen.slice(before).some(({ fault }) => fault.kind !== 'pass')).toBe(true)
      expect((await target.get(key)).equals(body)).toBe(true)
    })
  }

  test("the target's own get gets over a torn body, and never gives out half of one", async (context) => {
    const { faulty, ownCallsPassProxy } = need(context)
    if (!ownCallsPassProxy) return context.skip('this target is not reached over a network')
    const key = `${freshFolder()}/a`
    const body = randomBytes(1_000_000)
    await faulty.target.put(key, body)
    let gets = 0
    faulty.proxy.script = () => (++gets === 1 ? { kind: 'cut-reply', afterBytes: 300_000 } : { kind: 'pass' })
    expect((await faulty.target.get(key)).equals(body)).toBe(true)
    faulty.proxy.script = () => ({ kind: 'cut-reply', afterBytes: 300_000 })
    expect(await codeOf(faulty.target.get(key))).toBe('target_unreachable')
    faulty.proxy.script = () => ({ kind: 'pass' })
  })

  test('a service that denies is target_denied, one that is down target_unreachable; neither message holds a signature', async (context) => {
    const { faulty, ownCallsPassProxy } = need(context)
    if (!ownCallsPassProxy) return context.skip('this target is not reached over a network')
    const key = `${freshFolder()}/a`
    for (const [status, code] of [
      [403, 'target_denied'],
      [503, 'target_unreachable'],
    ] as const) {
      faulty.proxy.script = () => ({ kind: 'status', status })
      const error = await rejection(faulty.target.put(key, Buffer.from('x')))
      expect(error).toMatchObject({ code })
      expect(String(error)).toContain(key)
      expect(JSON.stringify(error, Object.getOwnPropertyNames(error))).not.toMatch(/signature|credential=|authorization/i)
    }
    faulty.proxy.script = () => ({ kind: 'pass' })
  })
}
