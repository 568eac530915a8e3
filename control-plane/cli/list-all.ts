import { EXIT, type ExitStatus } from '../../shared/exit-status.ts'
import type { Cli } from './cli.ts'
import type { Query } from './client.ts'
import { printJson } from './print.ts'

const PAGE = 500

/** A whole list, page by page, as one table or one document. */
export async function listAll<Item>(cli: Cli, path: string, query: Query, print: (items: Item[]) => void): Promise<ExitStatus> {
  const items: Item[] = []
  let cursor: string | null = null
  do {
    const page: { items: Item[]; next_cursor: string | null } = await cli.client.get(path, {
      ...query,
      limit: PAGE,
      cursor: cursor ?? undefined,
    })
    items.push(...page.items)
    cursor = page.next_cursor
  } while (cursor !== null)
  if (cli.format === 'json') printJson(cli.io, { items, next_cursor: null })
  else print(items)
  return EXIT.done
}
