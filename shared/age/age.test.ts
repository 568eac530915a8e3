import { expect, test } from 'vitest'
import { Secret } from '../secret.ts'
import { identityFromFile, newAgeIdentity, openWith, recipientOf, requireRecipient, sealArmoured, sealTo } from './age.ts'

test('each recipient opens what was sealed to several, others do not', async () => {
  const [one, two, other] = [await newAgeIdentity(), await newAgeIdentity(), await newAgeIdentity()]
  const recipients = [await recipientOf(one), await recipientOf(two)]
  const plain = Buffer.from('secret')
  for (const sealed of [await sealTo(recipients, plain), await sealArmoured(recipients, plain)]) {
    expect(await openWith(one, sealed)).toEqual(plain)
    expect(await openWith(two, sealed)).toEqual(plain)
    await expect(openWith(other, sealed)).rejects.toMatchObject({ code: 'key_missing' })
  }
})

test('a changed age file opens with no identity', async () => {
  const identity = await newAgeIdentity()
  const sealed = await sealTo([await recipientOf(identity)], Buffer.from('secret'))
  for (let at = 0; at < sealed.length; at += 7) {
    const changed = Buffer.from(sealed)
    changed[at] = (changed[at] ?? 0) ^ 1
    await expect(openWith(identity, changed)).rejects.toMatchObject({ code: 'key_missing' })
  }
})

test('a mistyped recipient is refused before anything is sealed to nobody', async () => {
  const recipient = await recipientOf(await newAgeIdentity())
  expect(requireRecipient(` ${recipient}\n`)).toBe(recipient)
  const typo = recipient.slice(0, 20) + (recipient[20] === 'q' ? 'p' : 'q') + recipient.slice(21)
  for (const wrong of ['', 'age1', typo, `${recipient}q`]) expect(() => requireRecipient(wrong)).toThrow('not an age recipient')
  await expect(sealTo([], Buffer.alloc(1))).rejects.toMatchObject({ code: 'invalid_argument' })
})

test('the secret key is found among the comments of an identity file', async () => {
  const identity = await newAgeIdentity()
  expect(identityFromFile(new Secret(`# created\n# public key: age1\n${identity.reveal()}\n`)).reveal()).toBe(identity.reveal())
  expect(() => identityFromFile(new Secret('# nothing'))).toThrow('no age secret key')
})
