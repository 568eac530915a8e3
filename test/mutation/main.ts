import { symlink } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import type { PartialStrykerOptions } from '@stryker-mutator/api/core'
import { Stryker } from '@stryker-mutator/core'
import { throwAwayFolder } from '../harness/folders.ts'
import { MODULES, type MutatedModule } from './modules.ts'
import { report } from './report.ts'

// npm run test:mutation -- MODULE [FILE[:FROM-TO] ...]: changes the module's code in many small ways, one at a time, and shows which of them no unit
// test noticed. docs/testing.md has the figures. Not part of npm test: it takes minutes for each module.

const FOLDER = 'shared/repository/'

function options({ files }: MutatedModule, only: readonly string[], tempDirName: string): PartialStrykerOptions {
  return {
    mutate: (only.length > 0 ? only : files).map((file) => `${FOLDER}${file}`),
    testRunner: 'vitest',
    // threads: they begin in a fraction of the time of processes, and end with the one that runs them
    vitest: { configFile: 'test/mutation/vitest.config.ts', related: false, pool: 'threads' },
    plugins: ['@stryker-mutator/vitest-runner'],
    // without tsconfig.json: Stryker reads it with an interface that TypeScript 7 does not have
    ignorePatterns: ['**', '!shared/**', '!test/harness/**', '!test/mutation/**', '!package.json'],
    coverageAnalysis: 'perTest',
    concurrency: 1,
    // tests take a second or two: a machine that is busy must not count as one that noticed, and each endless loop lasts so long
    timeoutMS: 10_000,
    timeoutFactor: 2,
    dryRunTimeoutMinutes: 20,
    disableTypeChecks: false,
    allowConsoleColors: false,
    reporters: ['progress-append-only'],
    logLevel: 'warn' as PartialStrykerOptions['logLevel'],
    tempDirName,
    // Stryker would not see packages that are linked in; the copy finds them in the folder around it
    symlinkNodeModules: false,
  }
}

const [name = '', ...only] = process.argv.slice(2)
const module = MODULES[name]
if (!module) {
  process.stderr.write(`say which module: ${Object.keys(MODULES).join(', ')}\n`)
  process.exit(1)
}
// for vitest.config.ts: Stryker's own choice of test files does not hold for code that runs while a file is loaded
process.env.HOLDFAST_MUTATED_MODULE = name
await using folder = await throwAwayFolder()
await symlink(resolve('node_modules'), join(folder.path, 'node_modules'))
process.stdout.write(report(name, await new Stryker(options(module, only, folder.path)).runMutationTest()))
