import { afterAll, describe, expect, it } from 'vitest'
import { standing } from './standing.ts'

const seen: string[] = []

class Server implements AsyncDisposable {
  readonly #port = 7
  get port(): number {
    return this.#port
  }
  async [Symbol.asyncDispose](): Promise<void> {
    seen.push('ended')
  }
}

describe('what tests stand on', () => {
  describe('of which some are run', () => {
    const server = standing('the server', async () => {
      seen.push('started')
      return new Server()
    })
    const collected = [...seen]
    expect(() => server.port).toThrow('is not started while tests are collected')

    it('is started for them, and not before', () => {
      expect(collected).toEqual([])
      expect(seen).toEqual(['started'])
      expect(server.port).toBe(7)
    })
  })

  describe('of which none is run', () => {
    standing('the other', async () => {
      seen.push('started in vain')
      return new Server()
    })
    it.skip('is not started', () => undefined)
  })

  it('is ended after the last', () => {
    expect(seen).toEqual(['started', 'ended'])
  })
})

afterAll(() => {
  expect(seen).toEqual(['started', 'ended'])
})
