import { mkdirSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { makeGolden } from './golden-repository.ts'

/**
 * Writes the golden repository of a version of the format: `node shared/repository/testing/make-golden.ts FOLDER`. Run once for each version: a
 * folder that exists is never made again, since later versions have to read what this one wrote.
 */
const folder = process.argv[2] as string
const golden = await makeGolden()
mkdirSync(folder)
for (const [key, bytes] of golden.objects) {
  const file = path.join(folder, 'target', key)
  mkdirSync(path.dirname(file), { recursive: true })
  writeFileSync(file, bytes)
}
for (const [name, text] of Object.entries(golden.identities)) writeFileSync(path.join(folder, `${name}.txt`), text)
writeFileSync(path.join(folder, 'expected.json'), `${JSON.stringify(golden.expected, null, 1)}\n`)
