import { hash } from 'node:crypto'
import canonicalize from 'canonicalize'
import { HoldfastError } from '../errors.ts'
import type { Manifest } from './manifest.ts'

/** RFC 8785 (JCS): one form for each value, so that signatures and hashes can be made again from the value alone. */
export function canonicalBytes(value: unknown): Buffer {
  const text = canonicalize(value)
  if (text === undefined) throw new HoldfastError('internal', 'a value has no canonical form')
  return Buffer.from(text)
}

/** What is signed: the role keeps a signature from being taken for one of another kind. */
export function signingBytes(role: 'agent' | 'fleet', value: unknown): Buffer {
  return Buffer.concat([Buffer.from(`holdfast/1 ${role}\n`), canonicalBytes(value)])
}

/** Hex SHA-256 of `manifest.json`, which is the canonical form and nothing else. */
export const manifestSha256 = (manifest: Manifest): string => hash('sha256', canonicalBytes(manifest))
