import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { engineContract } from '../contract.ts'
import { HOSTILE_NAMES } from '../testing/names.ts'
import { type FakeConfig, fakeConfig } from './config.ts'
import { fakeEngine } from './fake.ts'
import { type Parts, readPlace, writePlace } from './store.ts'

const lines = (count: number, word: string) => Buffer.from(`${word}\n`.repeat(count))
const text = (parts: Parts, wanted?: readonly string[]) =>
  [...parts]
    .filter(([part]) => !wanted || wanted.includes(part))
    .map(([part, bytes]) => `${part}=${bytes.toString('base64')}`)
    .sort()
    .join()

engineContract<FakeConfig>({
  engine: fakeEngine,
  async make() {
    const folder = await mkdtemp(path.join(tmpdir(), 'fake-'))
    const rawConfig = { folder, place: 'source' }
    const config = fakeConfig.parse(rawConfig)
    const source = { config, targetName: null }
    const odd = HOSTILE_NAMES.map((name, index): [string, Buffer] => [name, lines(index, name.replaceAll('\n', ' '))])
    await writePlace(source, new Map([['users', lines(9000, 'user')], ['orders', lines(70_000, 'order')], ...odd]))
    const change = async (edit: (parts: Parts) => void) => {
      const parts = await readPlace(source)
      edit(parts)
      await writePlace(source, parts)
    }
    return {
      config,
      rawConfig,
      unreachable: { ...config, folder: path.join(folder, 'absent') },
      secrets: [],
      parts: ['users', '--version'],
      namesArePaths: false,
      mutate: () => change((parts) => parts.set('users', lines(9001, 'changed'))),
      lose: () => change((parts) => parts.set('orders', lines(69_999, 'order'))),
      state: async (place, wanted) => text(await readPlace(place), wanted),
      holdsMoreThan: async (place, wanted) => [...(await readPlace(place)).keys()].some((part) => !wanted.includes(part)),
      places: () => readdir(folder),
      dispose: () => rm(folder, { recursive: true, force: true }),
    }
  },
})
