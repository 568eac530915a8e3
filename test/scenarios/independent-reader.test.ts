import { cp, mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import type { ExpectedArtifact, ExpectedBackup, ExpectedEntry } from '../../shared/repository/testing/golden-expectation.ts'
import { escaped } from '../../shared/repository/testing/golden-expectation.ts'
import { makeGolden } from '../../shared/repository/testing/golden-repository.ts'
import { available } from '../harness/cache.ts'
import { throwAwayFolder } from '../harness/folders.ts'
import { independentReader } from '../harness/independent-reader.ts'

/**
 * A second reader, in another language and made from FORMAT.md alone, restores what the first version wrote and what the writer of
 * today writes. So a change of the format without a new version number fails here, also when writer and reader were changed together.
 */

const run = await available('independent reader', 'download', () => true, independentReader)
const root = process.getuid?.() === 0

type Row = Record<string, unknown>
type Backups = ReadonlyArray<readonly [place: string, expected: ExpectedBackup]>

interface Restored extends Omit<ExpectedArtifact, 'entries' | 'sha256'> {
  readonly digest: string
  readonly entries?: number
  readonly path: string
  readonly left_out?: readonly string[]
}

/** The rows that the reader prints; throws with what it said unless it exited 0. */
async function rows<T = Row>(...args: string[]): Promise<T[]> {
  const { status, stdout, stderr } = await (run as NonNullable<typeof run>)(args)
  if (status !== 0) throw new Error(stderr)
  return stdout
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line))
}

/** What the system keeps of an entry for the user that we are. */
function keptOf(entry: ExpectedEntry | Row): Row {
  if (root) return { ...entry }
  const { uid, gid, ...rest } = entry as Row
  return rest
}

const isDevice = ({ type }: ExpectedEntry): boolean => type.endsWith('-device')

/** All that one identity opens: listed, verified to the last chunk, restored, and compared with what was handed to the writer. */
async function expectRestored(repository: string, identity: string, backups: Backups, to: string): Promise<void> {
  const places = backups.flatMap(([place]) => ['--backup', place])
  const known = ['--repository', repository, '--identity', identity]
  // the index of a backup whose keys were rotated still opens for the agent, which goes on with it
  const agent = ['--identity', path.join(path.dirname(identity), 'agent.txt')]
  const listed = await rows('list', ...known, ...places)
  const verified = await rows('verify', ...known, ...agent, ...places)
  const restored = await rows<{ artifacts: Restored[] }>('restore', ...known, ...places, '--to', to)
  expect(restored).toHaveLength(backups.length)
  for (const [n, [place, expected]] of backups.entries()) {
    const { type, attempts, packs, artifacts } = expected
    expect(listed[n]).toMatchObject({ place, state: 'open', origin: 'verified', type, attempts, packs })
    expect(listed[n]?.leans_on).toHaveLength(expected.leans_on)
    expect(verified[n]).toMatchObject({ place, artifacts: artifacts.length, packs, index: 'checked' })
    await expectArtifacts(restored[n]?.artifacts ?? [], artifacts)
  }
}

async function expectArtifacts(restored: readonly Restored[], expected: readonly ExpectedArtifact[]): Promise<void> {
  expect(restored.map(({ name }) => name)).toEqual(expected.map(({ name }) => name))
  const described = await rows<{ path: string; entries: Row[] }>('describe', ...restored.map((one) => one.path))
  const lying = new Map(described.map((one) => [one.path, one.entries]))
  for (const [n, { entries, ...artifact }] of expected.entries()) {
    const { path: lies, left_out, facts, digest: _, ...row } = restored[n] as Restored
    const found = lying.get(lies) ?? []
    const short = Object.fromEntries(Object.entries(facts).map(([name, text]) => [name, escaped(Buffer.from(text))]))
    if (artifact.kind === 'stream') {
      const { sha256, ...expectedRow } = artifact
      expect({ ...row, facts: short }).toEqual(expectedRow)
      expect(found).toMatchObject([{ type: 'file', size: artifact.bytes, sha256 }])
      continue
    }
    expect({ ...row, facts: short }).toEqual({ ...artifact, entries: entries?.length })
    const made = (entries ?? []).filter((entry) => root || !isDevice(entry))
    expect(left_out).toEqual((entries ?? []).filter((entry) => !root && isDevice(entry)).map((entry) => entry.path))
    // a tree without entries, not even its root, is an empty folder all the same
    expect(found.slice(made.length === 0 ? 1 : 0).map(keptOf)).toEqual(made.map(keptOf))
  }
}

const openedBy = (backups: Backups, name: string): Backups => backups.filter(([, { opened_by }]) => opened_by.includes(name))

describe.skipIf(run === null)('a second reader, made from FORMAT.md alone', () => {
  const kept = path.resolve(import.meta.dirname, '../../shared/repository/testing/format-1')
  let keptBackups: Backups

  beforeAll(async () => {
    keptBackups = Object.entries(JSON.parse(await readFile(path.join(kept, 'expected.json'), 'utf8')))
  })

  test('restores every backup that the first version of the format wrote', async () => {
    await using folder = await throwAwayFolder()
    for (const name of ['fleet', 'recovery', 'rotated']) {
      const to = path.join(folder.path, name)
      await expectRestored(path.join(kept, 'target'), path.join(kept, `${name}.txt`), openedBy(keptBackups, name), to)
    }
  })

  test('restores every backup that the writer of today writes', async () => {
    await using folder = await throwAwayFolder()
    const golden = await makeGolden()
    const repository = path.join(folder.path, 'target')
    for (const [key, bytes] of golden.objects) {
      await mkdir(path.dirname(path.join(repository, key)), { recursive: true })
      await writeFile(path.join(repository, key), bytes)
    }
    for (const [name, text] of Object.entries(golden.identities)) await writeFile(path.join(folder.path, `${name}.txt`), text)
    for (const name of ['fleet', 'recovery', 'rotated']) {
      const backups = openedBy(Object.entries(golden.expected), name)
      await expectRestored(repository, path.join(folder.path, `${name}.txt`), backups, path.join(folder.path, name))
    }
  })

  test('says of each backup whether it is deleted or sealed to others, and opens it for nobody else', async () => {
    for (const name of ['fleet', 'recovery', 'rotated', 'agent']) {
      const known = ['--repository', path.join(kept, 'target'), '--identity', path.join(kept, `${name}.txt`)]
      const states = new Map((await rows('list', ...known)).map((row) => [row.place, row.state]))
      for (const [place, { deleted, opened_by }] of keptBackups) {
        expect(states.get(place)).toBe(deleted ? 'deleted' : opened_by.includes(name) ? 'open' : 'sealed to others')
        if (opened_by.includes(name) || name !== 'fleet') continue
        await expect(rows('verify', ...known, '--backup', place)).rejects.toThrow(deleted ? 'deleted' : 'no key file gives')
      }
    }
  })

  test('refuses a repository with one changed byte, naming the object', async () => {
    await using folder = await throwAwayFolder()
    const repository = path.join(folder.path, 'target')
    await cp(path.join(kept, 'target'), repository, { recursive: true })
    const [place] = keptBackups[0] as Backups[number]
    const objects = await readdir(path.join(repository, place), { recursive: true, withFileTypes: true })
    const known = ['--repository', repository, '--identity', path.join(kept, 'fleet.txt')]
    for (const object of objects.filter((entry) => entry.isFile())) {
      const file = path.join(object.parentPath, object.name)
      const before = await readFile(file)
      const changed = Buffer.from(before)
      const at = Math.floor(before.length / 2)
      changed[at] = (changed[at] as number) ^ 1
      await writeFile(file, changed)
      const name = path.relative(path.join(repository, place), file)
      await expect(rows('verify', ...known, '--backup', place)).rejects.toThrow(`${place}/${name}`)
      await writeFile(file, before)
    }
  })
})
