import { z } from 'zod'
import { HoldfastError } from '../errors.ts'

const bucket = z.string().regex(/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/, 'is not the name of a bucket')
/** Without a slash at either end; segments as keys have them. */
const prefix = z
  .string()
  .regex(/^(?!.*(?:^|\/)\.{1,2}(?:\/|$))[A-Za-z0-9._-]+(?:\/[A-Za-z0-9._-]+)*$/, 'is not a prefix')
  .max(200)

const LOOPBACK = /^(localhost|127(?:\.\d{1,3}){3}|\[::1\])$/

/** Signed addresses are worth 15 minutes of access to whoever reads them on their way: https, but on this very machine. */
const endpoint = z.url({ protocol: /^https?$/ }).refine((url) => {
  const { protocol, hostname } = new URL(url)
  return protocol === 'https:' || LOOPBACK.test(hostname)
}, 'must begin with https:// unless it is on this machine')

export const localConfigSchema = z.strictObject({
  kind: z.literal('local'),
  path: z.string().min(1).max(4000),
})

export const s3ConfigSchema = z.strictObject({
  kind: z.literal('s3'),
  bucket,
  region: z
    .string()
    .regex(/^[a-z0-9-]{2,40}$/)
    .optional(),
  prefix: prefix.optional(),
  endpoint: endpoint.optional(),
  /** The bucket as a folder of the address, for services without a name per bucket. */
  force_path_style: z.boolean().optional(),
  /** For new objects, for example STANDARD_IA. */
  storage_class: z
    .string()
    .regex(/^[A-Z_]{3,40}$/)
    .optional(),
})

/** A target as in server.yaml. Never credentials: those come by the usual AWS chain. */
export const targetConfigSchema = z.discriminatedUnion('kind', [localConfigSchema, s3ConfigSchema])
export type TargetConfig = z.infer<typeof targetConfigSchema>
export type LocalConfig = z.infer<typeof localConfigSchema>
export type S3Config = z.infer<typeof s3ConfigSchema>

/** Checks a target's configuration, or throws `invalid_config` naming each setting that is wrong. */
export function parseTargetConfig(name: string, config: unknown): TargetConfig {
  const parsed = targetConfigSchema.safeParse(config)
  if (parsed.success) return parsed.data
  throw new HoldfastError('invalid_config', `storage target ${name}: ${z.prettifyError(parsed.error)}`, {
    hint: 'A target is { kind: local, path } or { kind: s3, bucket, region, prefix, endpoint, force_path_style, storage_class }.',
  })
}
