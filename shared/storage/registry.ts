import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Clock, systemClock } from '../clock.ts'
import { HoldfastError } from '../errors.ts'
import { parseTargetConfig, type TargetConfig } from './config.ts'
import type { LocalSigner } from './local/address.ts'
import { openLocal } from './local/target.ts'
import { openS3, type S3Credentials } from './s3/target.ts'
import type { StorageTarget, TargetFacts } from './target.ts'

export interface OpenOptions {
  /** As in the configuration; it is a part of a local target's addresses. "store" when left out. */
  readonly name?: string
  readonly clock?: Clock
  /** Local targets only: with it they sign addresses. */
  readonly signer?: LocalSigner
  /** What an earlier probe found out. */
  readonly facts?: TargetFacts
  /** S3 only: instead of the usual AWS chain. */
  readonly credentials?: S3Credentials
}

/** Opens a target for a control plane. A local folder is made where it is missing. Throws `invalid_config`, `target_refused`. */
export async function openTarget(config: TargetConfig, options: OpenOptions = {}): Promise<StorageTarget> {
  const { name = 'store', clock = systemClock } = options
  const checked = parseTargetConfig(name, config)
  switch (checked.kind) {
    case 'local':
      return openLocal(checked.path, { name, clock, signer: options.signer, create: true })
    case 's3':
      return openS3(checked, { name, clock, facts: options.facts, credentials: options.credentials })
  }
}

/**
 * Opens a store without a control plane, with the host's own credentials: a path, `file://` or `s3://bucket/prefix` (region and
 * endpoint as AWS's own settings say, or `?region=...&endpoint=...&force_path_style=true` behind it). A folder that is missing is made only with `create`.
 */
export async function openStore(url: string, options: { create?: boolean; clock?: Clock } = {}): Promise<StorageTarget> {
  const { create = false, clock = systemClock } = options
  const name = 'store'
  if (url.startsWith('s3://')) return openTarget(fromS3Url(url), { name, clock })
  if (url.startsWith('file://')) return openLocal(fromFileUrl(url), { name, clock, create })
  if (url === '' || /^[a-z][a-z0-9+.-]*:\/\//i.test(url)) throw unknownStore(url)
  return openLocal(path.resolve(url), { name, clock, create })
}

function fromS3Url(url: string): TargetConfig {
  const [place = '', query = ''] = url.slice('s3://'.length).split('?')
  const [bucket = '', ...prefix] = place.replace(/\/$/, '').split('/')
  const settings: Record<string, unknown> = Object.fromEntries(new URLSearchParams(query))
  if (settings.force_path_style) settings.force_path_style = settings.force_path_style === 'true'
  if (prefix.length > 0) settings.prefix = prefix.join('/')
  return parseTargetConfig('store', { ...settings, kind: 's3', bucket })
}

function fromFileUrl(url: string): string {
  try {
    return fileURLToPath(url)
  } catch (error) {
    throw unknownStore(url, error)
  }
}

function unknownStore(url: string, cause?: unknown): HoldfastError {
  // an address may carry a password; only what comes before it is repeated
  const scheme = /^[a-z][a-z0-9+.-]*:\/\//i.exec(url)?.[0] ?? JSON.stringify(url)
  return new HoldfastError('invalid_argument', `${scheme} is not a store that can be opened`, {
    hint: 'Give a folder, file:///folder, or s3://bucket/prefix.',
    cause,
  })
}
