import { existsSync } from 'node:fs'
import { appendFile, mkdir, mkdtemp, readdir, readFile, rm, unlink, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { engineContract } from '../contract.ts'
import type { Place } from '../engine.ts'
import { type FilesConfig, filesConfig, locate } from './config.ts'
import { filesEngine } from './files.ts'
import { describeTree, makeOddTree } from './odd-tree.fixture.ts'
import { removeTree } from './remove.ts'

const PARTS = ['docs', '--version', 'names/$(touch holdfast-pwned)']
const outside = ['/tmp/holdfast-escaped', '/holdfast-escaped', path.resolve('holdfast-pwned')]
const where = (place: Place<FilesConfig>) => locate(place).path

engineContract<FilesConfig>({
  engine: filesEngine,
  async make() {
    const base = await mkdtemp(path.join(tmpdir(), 'files-'))
    const folder = path.join(base, 'srv')
    await mkdir(folder)
    const source = path.join(folder, 'source')
    await makeOddTree(source)
    const rawConfig = { path: source, exclude: ['*.excluded'] }
    const config = filesConfig.parse(rawConfig)
    return {
      config,
      rawConfig,
      unreachable: filesConfig.parse({ path: path.join(folder, 'absent') }),
      secrets: [],
      parts: PARTS,
      namesArePaths: true,
      async mutate() {
        await appendFile(path.join(source, 'docs/readme.txt'), 'more\n')
        await writeFile(path.join(source, 'docs/new'), 'new')
        await unlink(path.join(source, 'special/fifo'))
        const random = path.join(source, 'docs/deep/random')
        await writeFile(random, (await readFile(random)).fill(7, 1000, 2000))
        await utimes(source, 1, 1)
      },
      lose: () => unlink(path.join(source, 'docs/secret')),
      state: async (place, parts) => describeTree(where(place), parts),
      async holdsMoreThan(place, parts) {
        const names = await readdir(where(place), { recursive: true, withFileTypes: true })
        return names.some((entry) => {
          const name = path.relative(where(place), path.join(entry.parentPath, entry.name))
          return !entry.isDirectory() && !parts.some((part) => name === part || name.startsWith(`${part}/`))
        })
      },
      places: async () =>
        [...(await readdir(base)), ...(await readdir(folder)), ...outside.filter((one) => existsSync(one))].sort(),
      async dispose() {
        await removeTree(Buffer.from(base))
        for (const one of outside) await rm(one, { force: true, recursive: true })
      },
    }
  },
})
