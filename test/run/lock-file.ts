import { readFile } from 'node:fs/promises'
import path from 'node:path'

interface Locked {
  readonly version?: string
  readonly license?: string
  readonly integrity?: string
  readonly optionalDependencies?: Readonly<Record<string, string>>
}

/** Licences under which a package may be part of a product under Apache-2.0. */
const LICENCES = new Set([
  'MIT',
  'MIT-0',
  'ISC',
  'Apache-2.0',
  'BSD-2-Clause',
  'BSD-3-Clause',
  '0BSD',
  'BlueOak-1.0.0',
  'Python-2.0',
  'CC0-1.0',
  'Unlicense',
  'Zlib',
])

/**
 * Judged one by one: lightningcss belongs to the test runner, caniuse-lite (a table of browsers, as data) to what mutation testing parses programs with;
 * both are used unmodified and never released.
 */
const JUDGED: ReadonlyArray<readonly [name: RegExp, licence: string]> = [
  [/(^|\/)lightningcss(-[a-z0-9-]+)?$/, 'MPL-2.0'],
  [/(^|\/)caniuse-lite$/, 'CC-BY-4.0'],
]

/**
 * What is wrong with package-lock.json, or null: a package made for another kind of machine that npm left out when the file
 * was written (`npm ci` then refuses the whole file), a package without a checksum, a licence that was not judged.
 */
export async function lockTrouble(root: string): Promise<string | null> {
  const lock = JSON.parse(await readFile(path.join(root, 'package-lock.json'), 'utf8')) as { packages: Record<string, Locked> }
  const trouble: string[] = []
  for (const [name, entry] of Object.entries(lock.packages)) {
    for (const wanted of Object.keys(entry.optionalDependencies ?? {})) {
      if (!isThere(lock.packages, name, wanted))
        trouble.push(`${name || 'the project'} wants ${wanted}, which is not in the lock file`)
    }
    if (name === '') continue
    if (entry.integrity === undefined) trouble.push(`${name} has no checksum`)
    if (!allowed(name, entry.license)) trouble.push(`${name}: the licence ${entry.license ?? '(none)'} was not judged`)
  }
  return trouble.length === 0 ? null : trouble.join('\n')
}

/** As Node finds it: in the package's own node_modules, then in those of the folders above. */
function isThere(packages: Readonly<Record<string, Locked>>, from: string, wanted: string): boolean {
  for (let at = from; ; at = at.slice(0, Math.max(0, at.lastIndexOf('node_modules/') - 1))) {
    if (`${at ? `${at}/` : ''}node_modules/${wanted}` in packages) return true
    if (at === '') return false
  }
}

function allowed(name: string, licence: string | undefined): boolean {
  if (licence === undefined) return false
  if (JUDGED.some(([pattern, judged]) => pattern.test(name) && judged === licence)) return true
  return licence
    .replace(/[()]/g, '')
    .split(' OR ')
    .some((one) => one.split(' AND ').every((part) => LICENCES.has(part)))
}
