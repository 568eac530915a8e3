import { mkdir } from 'node:fs/promises'
import path from 'node:path'
import { runCommand } from '../test/harness/commands.ts'

// Makes shared/generated from the .proto files: types and clients, and the descriptors that reflection serves. `npm run generate`.
// With an argument the result is in ARGUMENT/../shared/generated instead, for the check that what is committed is up to date.
const here = import.meta.dirname
const base = path.resolve(process.argv[2] ?? here)
const out = path.resolve(base, '../shared/generated')
const buf = path.join(here, '../node_modules/.bin/buf')
// the plugin of buf is a Node program: it finds the Node that runs this
const env = { PATH: `${path.dirname(process.execPath)}${path.delimiter}${process.env.PATH ?? ''}` }

await mkdir(out, { recursive: true })
await runCommand(buf, ['generate', '-o', base], { cwd: here, env })
await runCommand(buf, ['build', '--exclude-source-info', '-o', path.join(out, 'descriptors.binpb')], { cwd: here, env })
