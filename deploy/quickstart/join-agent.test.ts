import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { expect, test } from 'vitest'
import { stringify } from 'yaml'
import { shellQuoted } from '../../shared/add-command.ts'
import type { FoundSource } from '../../shared/results.ts'
import { throwAwayFolder } from '../../test/harness/folders.ts'
import { foundHere } from './join-agent.ts'

/** As the engine of PostgreSQL finds one. */
function database(name: string): FoundSource {
  return {
    engine: 'postgres',
    title: `postgresql 18 on port 5432: ${name}`,
    name,
    facts: { version: '18.6', port: '5432', host: '/run/postgresql', database: name, user: 'postgres' },
    size_bytes: 8_000_000,
    add: ['--engine', 'postgres', '--url', urlOf(name)],
    findings: [],
  }
}
const urlOf = (name: string) => `postgres://postgres@/${name}?host=/run/postgresql`

/** What is printed in a home whose agent protects `urls` already, on a host where `found` is. */
async function shown(found: readonly FoundSource[], urls: readonly string[] = []): Promise<{ lines: string[]; home: string }> {
  await using folder = await throwAwayFolder()
  const home = path.join(folder.path, 'try it')
  await mkdir(path.join(home, 'agent'), { recursive: true })
  const sources = Object.fromEntries(urls.map((url, n) => [`app-${n}`, { engine: 'postgres', url }]))
  await writeFile(path.join(home, 'agent', 'agent.yaml'), stringify({ sources }))
  const asked: string[][] = []
  const command = async (args: readonly string[]) => {
    asked.push([...args])
    return JSON.stringify({ items: found, findings: [] })
  }
  const lines = await foundHere({ command }, home)
  // it looks, and adds nothing
  expect(asked).toEqual([['discover', '--format', 'json']])
  return { lines, home }
}

const toPaste = (home: string) => `HOLDFAST_AGENT_HOME='${path.join(home, 'agent')}' npx --no-install holdfast-agent`

test('databases that are there are named, each with the command that protects it, in the form a shell takes', async () => {
  const { lines, home } = await shown([database('shop'), { ...database('odd'), name: undefined }])
  const add = (name: string, url: string) => `${toPaste(home)} source add ${name} --engine postgres --url ${shellQuoted(url)}`
  expect(lines).toEqual([
    `postgresql 18 on port 5432: shop - protect it: ${add('shop', urlOf('shop'))}`,
    `postgresql 18 on port 5432: odd - protect it: ${add('NAME', urlOf('odd'))}`,
  ])
})

test('what is protected already is not named again', async () => {
  const { lines } = await shown([database('shop'), database('wiki')], [urlOf('shop')])
  expect(lines).toEqual([expect.stringContaining('port 5432: wiki - protect it: ')])
  expect((await shown([database('shop')], [urlOf('shop')])).lines).toEqual([])
})

test('of many a few are named, and the rest is counted, with the command that lists all of them', async () => {
  const { lines, home } = await shown(['a', 'b', 'c', 'd', 'e', 'f', 'g'].map(database))
  expect(lines).toHaveLength(6)
  expect(lines.at(-1)).toBe(`and 2 more: ${toPaste(home)} discover`)
})
