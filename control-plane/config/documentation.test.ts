import { readFile } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { z } from 'zod'
import { VARIABLES } from './environment.ts'
import { serverConfigSchema } from './schema.ts'

const page = await readFile(new URL('../../docs/configuration.md', import.meta.url), 'utf8')

test('docs/configuration.md names every setting and every variable, and none that does not exist', () => {
  const schema = z.toJSONSchema(serverConfigSchema, { io: 'input' }) as unknown as Node
  const settings = pathsOf(schema, '')
  const documented = [...page.matchAll(/^\| ((?:`[^`]+`,? ?)+) \| /gm)].flatMap(([, cell = '']) =>
    [...cell.matchAll(/`([^`]+)`/g)].map(([, name]) => name),
  )
  expect(documented.sort()).toEqual(settings.sort())
  const named = new Set([...page.matchAll(/`(HOLDFAST_[A-Z_]+)`/g)].map(([, name]) => name))
  for (const other of ['HOLDFAST_CONFIG', 'HOLDFAST_URL', 'HOLDFAST_API_KEY']) named.delete(other)
  named.delete('HOLDFAST_')
  expect([...named].sort()).toEqual(Object.keys(VARIABLES).sort())
})

interface Node {
  readonly properties?: Readonly<Record<string, Node>>
  readonly additionalProperties?: unknown
}

function pathsOf(node: Node, at: string): string[] {
  if (node.properties)
    return Object.entries(node.properties).flatMap(([name, inner]) => pathsOf(inner, at ? `${at}.${name}` : name))
  return [typeof node.additionalProperties === 'object' ? `${at}.NAME` : at]
}
