import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { describe, expect, it } from 'vitest'
import { breachesOf, checkProject, sourceFiles } from './check.ts'
import { RULES, type Use } from './rules.ts'

const ROOT = path.resolve(import.meta.dirname, '../..')

/** For each rule a file and what breaks it there: a specifier to import, or code. */
const BROKEN: Readonly<Record<string, readonly [file: string, breach: string]>> = {
  'the agent does not know the control plane': ['agent/link/x.ts', '../../control-plane/domain/job.ts'],
  'the control plane does not know the agent': ['control-plane/fleet/x.ts', '../../agent/main.ts'],
  'shared imports neither program': ['shared/x.ts', '../agent/process/tools.ts'],
  'the product does not need its tests': ['agent/jobs/x.ts', '../../shared/fake-clock.ts'],
  'the domain does no I/O': ['control-plane/domain/x.ts', 'node:fs'],
  'a job reads no YAML': ['agent/jobs/x.ts', '../config/agent-config.ts'],
  'an engine stands alone': ['agent/engines/sqlite/x.ts', '../files/tree.ts'],
  'an engine does not see the registry': ['agent/engines/sqlite/x.ts', '../registry.ts'],
  'an engine does not see repository or storage': ['agent/engines/sqlite/x.ts', '../../../shared/repository/writer.ts'],
  'the repository does not know where objects lie': ['shared/repository/x.ts', '../storage/local/target.ts'],
  'a storage target stands alone': ['shared/storage/s3/x.ts', '../local/target.ts'],
  'the command line and the dashboard are clients of the API': ['control-plane/cli/x.ts', '../catalog/catalog.ts'],
  'the catalog and use-cases do not know HTTP': ['control-plane/usecases/x.ts', '../api/server.ts'],
  'home of drizzle-orm': ['control-plane/usecases/x.ts', 'drizzle-orm/pg-core'],
  'home of postgres': ['control-plane/api/x.ts', 'postgres'],
  'home of @aws-sdk/client-s3': ['agent/transfer/x.ts', '@aws-sdk/client-s3'],
  'home of fastify': ['control-plane/usecases/x.ts', 'fastify'],
  'home of nice-grpc': ['agent/jobs/x.ts', 'nice-grpc-common'],
  'home of node-cron': ['control-plane/usecases/x.ts', 'node-cron'],
  'home of prom-client': ['control-plane/usecases/x.ts', 'prom-client'],
  'home of commander': ['control-plane/api/x.ts', 'commander'],
  'home of pino': ['agent/jobs/x.ts', 'pino'],
  'home of @peculiar/**': ['control-plane/fleet/x.ts', '@peculiar/x509'],
  'home of age-encryption': ['shared/repository/x.ts', 'age-encryption'],
  'home of koffi': ['agent/process/x.ts', 'koffi'],
  'home of node:sqlite': ['control-plane/api/x.ts', 'node:sqlite'],
  'home of node:worker_threads': ['control-plane/api/x.ts', 'node:worker_threads'],
  'home of node:child_process': ['agent/engines/sqlite/x.ts', 'child_process'],
  'home of process.env': ['agent/jobs/x.ts', 'use: process.env'],
  'home of process.exit': ['agent/jobs/x.ts', 'use: process.exit'],
  'home of time': ['agent/jobs/x.ts', 'node:timers/promises'],
  'home of chance': ['test/harness/x.ts', 'use: Math.random'],
  'no code from text': ['agent/process/x.ts', 'use: shell option'],
  'no zstd with threads of its own': ['shared/repository/x.test.ts', 'use: zstd threads'],
  'home of zstd': ['agent/engines/postgres/x.ts', 'use: zstd'],
  'no error is dropped': ['agent/jobs/x.ts', 'use: empty catch'],
  'home of the console': ['agent/jobs/x.ts', 'use: console'],
}

/** Each guarded use in every spelling that comes to mind. */
const USES: Readonly<Record<Use, readonly string[]>> = {
  'process.env': [
    'process.env.X',
    'const { X } = process.env',
    "globalThis.process.env['X']",
    "import { env } from 'node:process'",
    'process["env"]',
  ],
  'process.exit': ['process.exit(1)', "import { exit } from 'process'"],
  'Date.now': ['Date.now()', 'const now = Date.now'],
  'performance.now': ['performance.now()'],
  'Math.random': ['Math.random()', '[1].map(Math.random)'],
  setTimeout: ['setTimeout(() => 1, 1)', 'globalThis.setTimeout(() => 1, 1)'],
  setInterval: ['setInterval(() => 1, 1)'],
  'new Date()': ['new Date()', 'Date()'],
  eval: ['eval("1")'],
  'new Function': ['new Function("1")', 'Function("1")'],
  console: ['console.log(1)', 'console.error(1)'],
  'shell option': ['f({ shell: true })', 'f({ shell: "/bin/sh" })', 'f({ shell })'],
  'zstd threads': [
    'f({ params: { [constants.ZSTD_c_nbWorkers]: 2 } })',
    "f(zlib.constants['ZSTD_c_nbWorkers'])",
    'f(zlib.constants[`ZSTD_c_nbWorkers`])',
    'const { ZSTD_c_nbWorkers: n } = constants',
    'f({ params: { [constants.ZSTD_c_jobSize]: 1 << 20 } })',
    'f({ params: { 400: 2 } })',
    "f({ params: { ['400']: 2 } })",
    "f(['--compress=client-zstd:level=3,workers=2'])",
    'f([`--compress=client-zstd:workers=${n}`])',
  ],
  zstd: [
    'zstdCompressSync(bytes)',
    "import { zstdDecompress as f } from 'node:zlib'",
    "zlib['createZstdCompress']()",
    'new zlib.ZstdCompress()',
  ],
  'empty catch': ['try { f() } catch {}', 'try { f() } catch (e) {\n}'],
}

const names = (file: string, source: string) => breachesOf(file, source).map((breach) => breach.rule)

describe('the rules of what may import and use what', () => {
  it('hold in the project', async () => {
    expect(await checkProject(ROOT)).toEqual([])
  })

  it.each(RULES.map((rule) => [rule.name, rule] as const))('%s: fails where it is broken', (name, rule) => {
    const [file, breach] = BROKEN[name] ?? ['', '']
    const isUse = breach.startsWith('use: ')
    const source = isUse ? (USES[breach.slice(5) as Use][0] ?? '') : `import '${breach}'`
    const found = breachesOf(file, source).find((one) => one.rule === name)
    expect(found).toMatchObject({ file, line: 1, why: rule.why })
    expect(rule.why).toMatch(/\.$/)
  })

  it.each(Object.entries(USES))('%s is seen in every spelling', (use, spellings) => {
    const rules = [{ name: 'it', why: 'Because.', files: ['**'], uses: [use as Use] }]
    for (const source of spellings) expect([source, breachesOf('a.ts', source, rules).length > 0]).toEqual([source, true])
  })

  it.each([
    "import type { A } from 'pino'",
    "export * from 'pino'",
    "export { a } from 'pino'",
    "const a = await import('pino')",
    "const a = require('pino')",
    "let a: import('pino').A",
    "import { compress } from 'zstd-napi'",
    "import { compress } from '@mongodb-js/zstd'",
    "const a = new URL('../../node_modules/../control-plane/x.ts', import.meta.url)",
  ])('an import is seen however it is written: %s', (source) => {
    expect(names('agent/jobs/x.ts', source)).not.toEqual([])
  })

  it('allow what they are meant to allow', () => {
    expect(names('agent/engines/sqlite/x.ts', "import './y.ts'; import '../engine.ts'; import '../../process/tools.ts'")).toEqual(
      [],
    )
    expect(names('agent/main.ts', "import process from 'node:process'; process.env.A; process.exit(1)")).toEqual([])
    expect(
      names(
        'agent/jobs/x.ts',
        'new Date(0); socket.setTimeout(1); f({ shell: false }); try { f() } catch { /* gone already */ }',
      ),
    ).toEqual([])
    expect(names('control-plane/api/x.ts', 'f({ params: { limit: 400 } }); g({ 400: 1 })')).toEqual([])
    expect(names('control-plane/cli/x.ts', "import '../fleet/recovery-identity.ts'")).toEqual([])
    expect(names('shared/storage/s3/x.ts', "import '@aws-sdk/client-s3'; import './y.ts'; import '../target.ts'")).toEqual([])
  })

  it('are held against every source file of the product', async () => {
    const files = await sourceFiles(ROOT)
    expect(files).toContain('shared/clock.ts')
    expect(files).toContain('deploy/launch/runtime.mjs')
    expect(files.length).toBeGreaterThan(200)
    // the one file that must break a rule were it not its home
    const clock = await readFile(path.join(ROOT, 'shared/clock.ts'), 'utf8')
    expect(names('shared/other.ts', clock)).toContain('home of time')
    expect(names('shared/clock.ts', clock)).toEqual([])
  })
})
