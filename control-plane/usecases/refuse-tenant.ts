import { HoldfastError } from '../../shared/errors.ts'

/** None of the engines has tenants: a tenant that is named must not be ignored. */
export function refuseTenant(engine: string, tenant: string | undefined): void {
  if (tenant === undefined) return
  throw new HoldfastError(
    'not_supported',
    `a ${engine} source has no tenants, so tenant ${JSON.stringify(tenant)} cannot be chosen`,
    {
      hint: 'Leave the tenant out, or choose parts with dataset_ids.',
    },
  )
}
