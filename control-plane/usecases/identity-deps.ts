import type { Clock } from '../../shared/clock.ts'
import type { Logger } from '../../shared/log.ts'
import type { Catalog } from '../catalog/catalog.ts'
import type { Audit } from '../fleet/audit.ts'
import type { Fleet } from '../fleet/authority.ts'
import type { FleetSettings } from '../fleet/settings.ts'

/** What the use cases about identity work with. */
export interface IdentityDeps {
  readonly catalog: Catalog
  readonly fleet: Fleet
  readonly clock: Clock
  readonly log: Logger
  readonly audit: Audit
  readonly settings: FleetSettings
}
