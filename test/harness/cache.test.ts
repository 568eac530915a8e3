import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { type ThrowAwayFolder, throwAwayFolder } from './folders.ts'

let root: ThrowAwayFolder
beforeEach(async () => {
  root = await throwAwayFolder()
  vi.stubEnv('HOLDFAST_TEST_CACHE', root.path)
  vi.stubEnv('HOLDFAST_TEST_REQUIRE', '')
  vi.stubEnv('HOLDFAST_TEST_REPORT', '')
  vi.resetModules()
})
afterEach(async () => {
  vi.unstubAllEnvs()
  await root.remove()
})

describe('the cache of real parts', () => {
  it('makes a part once, also when two ask at the same time', async () => {
    const { cached, isCached } = await import('./cache.ts')
    let made = 0
    const make = async (folder: string) => {
      made += 1
      await writeFile(path.join(folder, 'part'), 'x')
    }
    expect(isCached('thing', '1')).toBe(false)
    const both = await Promise.all([cached('thing', '1', make), cached('thing', '1', make)])
    expect(both[0]).toBe(both[1])
    expect(existsSync(path.join(both[0], 'part'))).toBe(true)
    expect(made).toBe(1)
    expect(isCached('thing', '1')).toBe(true)
  })

  it('leaves nothing behind of a part that could not be made', async () => {
    const { cached, isCached } = await import('./cache.ts')
    const broken = async () => {
      throw new Error('no such package')
    }
    await expect(cached('thing', '2', broken)).rejects.toThrow('no such package')
    expect(isCached('thing', '2')).toBe(false)
  })

  it('skips what must be built unless everything is required, and then fails when it cannot be had', async () => {
    const { available } = await import('./cache.ts')
    const get = async () => {
      throw new Error('no compiler')
    }
    const present = () => false
    expect(await available('server', 'build', present, async () => 'built')).toBeNull()
    expect(await available('server', 'download', present, get)).toBeNull()
    vi.stubEnv('HOLDFAST_TEST_REQUIRE', 'all')
    expect(await available('server', 'build', present, async () => 'built')).toBe('built')
    await expect(available('server', 'build', present, get)).rejects.toThrow('server cannot be had on this machine')
  })
})
