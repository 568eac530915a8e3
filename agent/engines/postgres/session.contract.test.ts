import { describe, expect, test } from 'vitest'
import { standingPostgres } from '../../../test/harness/postgres.ts'
import { startTcpProxy } from '../../../test/harness/tcp-proxy.ts'
import { addressOf } from './address.ts'
import { openSession } from './session.ts'
import { configOf } from './testing/bench.ts'

const server = await standingPostgres(15)

describe.skipIf(server === null)('a session', () => {
  if (server === null) return
  const copy = (rows: number) => `copy (select repeat('x', 199) from generate_series(1, ${rows})) to stdout`

  test('goes on after a COPY of any size, read to its end or left early', async () => {
    const session = await openSession(await addressOf(configOf(server, 'postgres')))
    for (let round = 0; round < 30; round++) {
      let bytes = 0
      for await (const piece of session.copyOut(copy(10_000 + round))) bytes += piece.length
      expect(bytes).toBe((10_000 + round) * 200)
      expect(await session.rows('select 1 as one')).toEqual([{ one: 1 }])
    }
    for (let round = 0; round < 10; round++) {
      for await (const piece of session.copyOut(copy(10_000 + round))) if (piece.length > 0) break
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
