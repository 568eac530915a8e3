import { z } from 'zod'
import { HoldfastError } from '../errors.ts'
import { readJson } from '../json.ts'
import { canonicalBytes } from './canonical.ts'
import { FLEET_OBJECT } from './layout.ts'
import { parseVerifyingKey } from './verifying-key.ts'

/** `holdfast.json` at the top of a target: says whose it is. Nothing is trusted because it stands there. */
export const fleetObjectSchema = z.strictObject({
  format: z.literal(1),
  fleet_id: z.string().min(1).max(64),
  verifying_key: z.string().max(100),
})
export type FleetObject = z.infer<typeof fleetObjectSchema>

const MAX_BYTES = 4096

export function writeFleetObject(fleet: { fleetId: string; verifyingKey: string }): Buffer {
  parseVerifyingKey(fleet.verifyingKey)
  return canonicalBytes(fleetObjectSchema.parse({ format: 1, fleet_id: fleet.fleetId, verifying_key: fleet.verifyingKey }))
}

export function readFleetObject(bytes: Buffer): FleetObject {
  const parsed = bytes.length > MAX_BYTES ? undefined : readJson(bytes, fleetObjectSchema)
  if (!parsed?.success) {
    throw new HoldfastError('format_unknown', `${FLEET_OBJECT} is not one of this format`, {
      hint: 'Check that the target is a Holdfast repository, and that this program is not older than it.',
      context: { key: FLEET_OBJECT },
      cause: parsed?.error,
    })
  }
  parseVerifyingKey(parsed.data.verifying_key)
  return parsed.data
}
