import { describe, expect, it } from 'vitest'
import { HoldfastError } from '../../shared/errors.ts'
import { ownError } from './own-disk.ts'

const system = (code: string) => Object.assign(new Error(`${code}: something, write`), { code })

describe("an error of the agent's own work", () => {
  it.each([system('ENOSPC'), system('EDQUOT'), Object.assign(new Error('database or disk is full'), { errcode: 13 })])(
    'no room is said with its folder, and is tried again (%s)',
    (error) => {
      expect(ownError(error, '/var/lib/holdfast')).toMatchObject({
        code: 'disk_full',
        message: expect.stringContaining('/var/lib/holdfast'),
        retry: true,
      })
    },
  )

  it('what an engine or a store has said stays as it is, and the rest is unforeseen', () => {
    const said = new HoldfastError('source_denied', 'no')
    expect(ownError(said, '/x')).toBe(said)
    expect(ownError(system('EAGAIN'), '/x').code).toBe('internal')
  })

  it.each([system('EIO'), system('EROFS'), Object.assign(new Error('disk I/O error'), { errcode: 266 })])(
    'a disk that fails is said with its folder, and is tried again (%s)',
    (error) => {
      expect(ownError(error, '/var/lib/holdfast')).toMatchObject({
        code: 'disk_failed',
        message: expect.stringContaining('/var/lib/holdfast'),
        retry: true,
      })
    },
  )
})
