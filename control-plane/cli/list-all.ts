import { EXIT, type ExitStatus } from '../../shared/exit-status.ts'
import type { Cli } from './cli.ts'
import type { Client, Query } from './client.ts'
import { printJson } from './print.ts'

const PAGE = 500

/** A whole list, page by page, as one table or one document. */
export async function listAll<Item>(cli: Cli, path: string, query: Query, print: (items: Item[]) => void): Promise<ExitStatus> {
  const items = await readAll<Item>(cli.client, path, query)
  if (cli.format === 'json') printJson(cli.io, { items, next_cursor: null })
  else print(items)
  return EXIT.done
}

export async function readAll<Item>(client: Client, path: string, query: Query = {}): Promise<Item[]> {
  const items: Item[] = []
  let cursor: string | null = null
  do {
    const page: { items: Item[]; next_cursor: string | null } = await client.get(path, {
      ...query,
      limit: PAGE,
      cursor: cursor ?? undefined,
    })
    items.push(...page.items)
    cursor = page.next_cursor
  } while (cursor !== null)
  return items
}
