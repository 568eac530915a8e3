import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { keyServiceContract } from '../contract.ts'
import { openKeyring } from './keyring.ts'

keyServiceContract('keyring', async () => {
  const folder = await mkdtemp(path.join(tmpdir(), 'hf-keyring-'))
  const service = await openKeyring(path.join(folder, 'keyring'), { create: true })
  return {
    service,
    changeKey: () => service.rotateKey(),
    stranger: await openKeyring(path.join(folder, 'other'), { create: true }),
  }
})
