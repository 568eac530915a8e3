import { describe, expect, test } from 'vitest'
import { standingPostgres } from '../../../test/harness/postgres.ts'
import { startTcpProxy } from '../../../test/harness/tcp-proxy.ts'
import { addressOf } from './address.ts'
import { openSession } from './session.ts'
import { configOf } from './testing/bench.ts'

const server = await standingPostgres(15)

describe.skipIf(server === null)('a session', () => {
  if (server === null) return
  /** Rows that the server does not keep anywhere: hundreds of gigabytes. */
  const ENDLESS = `copy (select repeat('x', 199) from pg_class a, pg_class b, pg_class c, pg_class d) to stdout`
  const copy = (rows: number) => `copy (select repeat('x', 199) from generate_series(1, ${rows})) to stdout`

  test('goes on after a COPY of any size', async () => {
    const session = await openSession(await addressOf(configOf(server, 'postgres')))
    for (let round = 0; round < 30; round++) {
      let bytes = 0
      for await (const piece of session.copyOut(copy(10_000 + round))) bytes += piece.length
      expect(bytes).toBe((10_000 + round) * 200)
      expect(await session.rows('select 1 as one')).toEqual([{ one: 1 }])
    }
    await session.close()
  })

  test('goes on after a COPY that is read more slowly than it comes', async () => {
    const session = await openSession(await addressOf(configOf(server, 'postgres')))
    for (let round = 0; round < 20; round++) {
      let bytes = 0
      for await (const piece of session.copyOut(copy(2_000 + 300 * round))) {
        bytes += piece.length
        // lets the client fill its buffer and hold the socket back
        for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve))
      }
      expect(bytes).toBe((2_000 + 300 * round) * 200)
      expect(await session.rows('select 1 as one')).toEqual([{ one: 1 }])
    }
    await session.close()
  })

  test('counts the rows of a COPY as the server does, and gives them as they are', async () => {
    const session = await openSession(await addressOf(configOf(server, 'postgres')))
    const told: number[] = []
    const text = `copy (select repeat('y', n % 700), n from generate_series(1, 3000) n) to stdout`
    const expected = Array.from({ length: 3000 }, (_, n) => `${'y'.repeat((n + 1) % 700)}\t${n + 1}\n`).join('')
    let got = ''
    for await (const piece of session.copyOut(text, (rows) => told.push(rows))) got += piece.toString('latin1')
    expect(got === expected).toBe(true)
    expect(told).toEqual([3000])
    for await (const _ of session.copyOut('copy (select 1 where false) to stdout', (rows) => told.push(rows)))
      expect.unreachable()
    expect(told).toEqual([3000, 0])
    await session.close()
  })

  test('tells what ends a COPY in its middle, and goes on', async () => {
    const session = await openSession(await addressOf(configOf(server, 'postgres')))
    const failing = session.copyOut('copy (select 1 / (50000 - n) from generate_series(1, 100000) n) to stdout')
    await expect(Array.fromAsync(failing, (piece) => piece.length)).rejects.toMatchObject({
      message: 'postgresql: division by zero',
    })
    expect(await session.rows('select 1 as one')).toEqual([{ one: 1 }])
    await session.close()
  })

  test('is cut when a COPY is left early: the server does not go on with it', async () => {
    const session = await openSession(await addressOf(configOf(server, 'postgres')))
    const [mine] = await session.rows<{ pid: number }>('select pg_backend_pid() as pid')
    for await (const piece of session.copyOut(ENDLESS)) if (piece.length > 0) break
    await expect(session.rows('select 1')).rejects.toMatchObject({ code: 'source_unreachable' })
    await expect.poll(() => server.sql('postgres', `select from pg_stat_activity where pid = ${mine?.pid}`)).toEqual([])
    await session.close()
  })

  const LOST = { code: 'source_unreachable', message: 'the connection to the server was lost' }

  test('that is cut while rows wait to be used tells who reads them', async () => {
    const session = await openSession(await addressOf(configOf(server, 'postgres')))
    const rows = session.copyOut(ENDLESS)[Symbol.asyncIterator]()
    expect((await rows.next()).value?.length).toBeGreaterThan(0)
    session.cut()
    // one more piece may have come before
    await expect((async () => [await rows.next(), await rows.next(), await rows.next()])()).rejects.toMatchObject(LOST)
    await session.close()
  })

  test('that is cut while rows are waited for tells who waits', async () => {
    const session = await openSession(await addressOf(configOf(server, 'postgres')))
    const [mine] = await session.rows<{ pid: number }>('select pg_backend_pid() as pid')
    const told = expect(session.copyOut('copy (select pg_sleep(60)) to stdout')[Symbol.asyncIterator]().next()).rejects
    const failed = told.toMatchObject(LOST)
    const sleeping = `select from pg_stat_activity where pid = ${mine?.pid} and wait_event = 'PgSleep'`
    await expect.poll(() => server.sql('postgres', sleeping)).toHaveLength(1)
    session.cut()
    await failed
    await session.close()
  })

  test('that was reset fails what it is asked at that very moment, too', async () => {
    await using proxy = await startTcpProxy(server.port)
    const url = `postgres://postgres@127.0.0.1:${proxy.port}/postgres`
    const session = await openSession(await addressOf(configOf(server, 'postgres', { url })))
    const next = session.rows('select pg_sleep(60)').catch(() => session.rows('rollback'))
    proxy.cut()
    await expect(next).rejects.toMatchObject({ code: 'source_unreachable' })
    await session.close()
  })

  test('that was lost is never made anew: its snapshot and locks are gone', async () => {
    const session = await openSession(await addressOf(configOf(server, 'postgres')))
    const [row] = await session.rows<{ pid: number }>('select pg_backend_pid() as pid')
    await server.sql('postgres', `select pg_terminate_backend(${row?.pid})`)
    await expect.poll(() => session.rows('select 1').catch((error) => error.code)).toBe('source_unreachable')
    await expect(session.rows('select 1')).rejects.toMatchObject({ code: 'source_unreachable' })
    await session.close()
  })
})
