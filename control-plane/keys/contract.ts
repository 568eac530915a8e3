import { describe, expect, test } from 'vitest'
import { isHoldfastError } from '../../shared/errors.ts'
import { Secret } from '../../shared/secret.ts'
import type { KeyService, Protected } from './key-service.ts'

export interface KeyServiceUnderTest {
  service: KeyService
  /** Makes another key the current one. */
  changeKey(): Promise<void>
  /** A service of the same kind with other keys. */
  stranger: KeyService
}

/** Every kind of key service passes this. */
export function keyServiceContract(kind: string, make: () => Promise<KeyServiceUnderTest>): void {
  describe(`key service ${kind}`, () => {
    const secret = new Secret(Buffer.from('the authority'))

    test('what was protected is revealed, and never stands in the protected value', async () => {
      const { service } = await make()
      const value = await service.protect('a', secret)
      expect((await service.reveal('a', value)).reveal()).toEqual(secret.reveal())
      expect(Buffer.from(JSON.stringify(value)).includes(secret.reveal())).toBe(false)
      expect(Buffer.from(JSON.stringify(value)).includes(secret.reveal().toString('base64'))).toBe(false)
      expect(await service.protect('a', secret)).not.toEqual(value)
    })

    test('the name is bound', async () => {
      const { service } = await make()
      await expectRefused(service, 'b', await service.protect('a', secret))
    })

    test('any changed character is refused', async () => {
      const { service } = await make()
      const value = await service.protect('a', secret)
      for (const field of Object.keys(value)) {
        const text = value[field] ?? ''
        for (const at of [0, Math.floor(text.length / 2)]) {
          const other = text[at] === 'A' ? 'B' : 'A'
          await expectRefused(service, 'a', { ...value, [field]: text.slice(0, at) + other + text.slice(at + 1) })
        }
        await expectRefused(service, 'a', { ...value, [field]: '' })
      }
    })

    test('another service of the same kind opens nothing', async () => {
      const { service, stranger } = await make()
      await expectRefused(stranger, 'a', await service.protect('a', secret))
    })

    test('a value from before a change of key still opens, and rotate carries it over', async () => {
      const { service, changeKey } = await make()
      const before = await service.protect('a', secret)
      await changeKey()
      expect((await service.reveal('a', before)).reveal()).toEqual(secret.reveal())
      const after = await service.rotate('a', before)
      expect(after).not.toEqual(before)
      expect((await service.reveal('a', after)).reveal()).toEqual(secret.reveal())
    })

    test('secrets above 64 KiB are refused', async () => {
      const { service } = await make()
      await expect(service.protect('a', new Secret(Buffer.alloc(64 * 1024 + 1)))).rejects.toMatchObject({ code: 'too_large' })
    })
  })
}

async function expectRefused(service: KeyService, name: string, value: Protected): Promise<void> {
  const error = await service.reveal(name, value).then(
    () => null,
    (thrown: unknown) => thrown,
  )
  expect(isHoldfastError(error, 'key_missing') || isHoldfastError(error, 'object_damaged'), String(error)).toBe(true)
}
