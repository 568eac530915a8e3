import type { Secret } from '../../shared/secret.ts'
import type { Catalog } from './catalog.ts'
import { openEmbedded } from './embedded.ts'
import { openServer } from './server.ts'

export type { Catalog, Db } from './catalog.ts'

export type CatalogConfig =
  | { readonly kind: 'embedded'; readonly folder: string }
  | { readonly kind: 'postgres'; readonly url: Secret }

/**
 * Opens the catalog and brings its schema up to date. Throws `catalog_locked` (the folder is another process's),
 * `catalog_newer`, `catalog_damaged` (embedded: it does not open, or a page does not match its checksum), `catalog_unreachable`.
 */
export function openCatalog(config: CatalogConfig): Promise<Catalog> {
  return config.kind === 'embedded' ? openEmbedded(config.folder) : openServer(config.url)
}
