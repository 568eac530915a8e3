import { afterAll, beforeAll } from 'vitest'

/**
 * What the tests of a file or a `describe` stand on: started before the first of them and ended after the last, also when what
 * is set up later fails. Nothing is started while tests are collected, nor for tests of which none was chosen. Looking at it before
 * that throws, so what is made of it belongs into beforeAll.
 */
export function standing<T extends AsyncDisposable>(what: string, start: () => Promise<T>): T {
  let started: T | undefined
  beforeAll(async () => {
    started = await start()
  })
  afterAll(async () => {
    await started?.[Symbol.asyncDispose]()
  })
  return new Proxy({} as T, {
    get: (_, name) => {
      // asked by every await of it
      if (name === 'then') return undefined
      if (!started) throw new Error(`${what} is not started while tests are collected: use it in beforeAll and in tests`)
      const value: unknown = Reflect.get(started, name, started)
      return typeof value === 'function' ? value.bind(started) : value
    },
  })
}
