import { expect, test, vi } from 'vitest'
import { newAgeIdentity, openWith, parseIdentityFile, recipientOf, requireRecipient, sealArmoured, sealTo } from './age.ts'

test('each recipient opens what was sealed to several, others do not', async () => {
  const [one, two, other] = [await newAgeIdentity(), await newAgeIdentity(), await newAgeIdentity()]
  const recipients = [await recipientOf(one), await recipientOf(two)]
  const plain = Buffer.from('secret')
  for (const sealed of [await sealTo(recipients, plain), await sealArmoured(recipients, plain)]) {
    expect(await openWith([one], sealed)).toEqual(plain)
    expect(await openWith([other, two], sealed)).toEqual(plain)
    await expect(openWith([other], sealed)).rejects.toMatchObject({ code: 'key_missing' })
  }
})

test('a changed age file opens with no identity', async () => {
  const identity = await newAgeIdentity()
  const sealed = await sealTo([await recipientOf(identity)], Buffer.from('secret'))
  for (let at = 0; at < sealed.length; at += 7) {
    const changed = Buffer.from(sealed)
    changed[at] = (changed[at] ?? 0) ^ 1
    // what names the recipients is readable by everyone: changed, it may name nobody that we are
    await expect(openWith([identity], changed)).rejects.toMatchObject({
      code: expect.stringMatching(/^(key_missing|object_damaged)$/),
    })
  }
})

test('a mistyped recipient is refused before anything is sealed to nobody', async () => {
  const recipient = await recipientOf(await newAgeIdentity())
  expect(requireRecipient(` ${recipient}\n`)).toBe(recipient)
  const typo = recipient.slice(0, 20) + (recipient[20] === 'q' ? 'p' : 'q') + recipient.slice(21)
  for (const wrong of ['', 'age1', typo, `${recipient}q`]) expect(() => requireRecipient(wrong)).toThrow('not an age recipient')
  await expect(sealTo([], Buffer.alloc(1))).rejects.toMatchObject({ code: 'key_missing' })
})

test('an identity file may have comments and several identities; a broken one is refused without repeating it', async () => {
  const [one, two] = [await newAgeIdentity(), await newAgeIdentity()]
  const text = `# created: today\r\n# verifying key: hfv1abc\n\n${one.reveal()}\n${two.reveal()}\n`
  expect(parseIdentityFile(text).map((secret) => secret.reveal())).toEqual([one.reveal(), two.reveal()])
  expect(parseIdentityFile('# nothing')).toEqual([])
  const broken = () => parseIdentityFile('AGE-SECRET-KEY-1BROKEN')
  expect(broken).toThrow(/not readable/)
  expect(broken).not.toThrow(/BROKEN/)
})

test('no age file at all is damaged, and not a matter of the identity', async () => {
  await expect(openWith([await newAgeIdentity()], Buffer.from('no age file'))).rejects.toMatchObject({ code: 'object_damaged' })
})

test('sealing and opening do without Response, for which Node would load all of its HTTP client', async () => {
  const identity = await newAgeIdentity()
  // more than one of age's pieces of 64 KiB
  const plain = Buffer.alloc(70_000, 'secret')
  vi.stubGlobal('Response', undefined)
  try {
    const opened = await openWith([identity], await sealTo([await recipientOf(identity)], plain))
    expect(opened.equals(plain)).toBe(true)
  } finally {
    vi.unstubAllGlobals()
  }
})
