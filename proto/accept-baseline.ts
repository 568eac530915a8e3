import { runCommand } from '../test/harness/commands.ts'

// Takes the wire contract as it stands for the one that later changes are held against. `npm run accept-wire-contract`.
const buf = `${import.meta.dirname}/../node_modules/.bin/buf`
await runCommand(buf, ['build', '--as-file-descriptor-set', '--exclude-source-info', '-o', 'baseline.binpb'], {
  cwd: import.meta.dirname,
})
