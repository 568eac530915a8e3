/**
 * What may import and use what: the one place. Each row fails the test run with its own reason. Paths are from the project's
 * root; `**` crosses folders. A package is named as it is imported, a built-in module as `node:NAME`.
 */
export interface Rule {
  readonly name: string
  /** A full sentence: what it is for. Shown to the person who broke it. */
  readonly why: string
  /** The files it holds for. */
  readonly files: readonly string[]
  /** Files among those that may. */
  readonly except?: readonly string[]
  /** Imports that are refused: files of the project, packages, built-in modules. */
  readonly imports?: readonly string[]
  /** Imports that are allowed although `imports` refuses them. */
  readonly butNot?: readonly string[]
  /** Uses that are refused. */
  readonly uses?: readonly Use[]
}

/** Besides dotted names: `new Date()` without arguments, a `shell` option that is not false, a catch that does nothing. */
export type Use =
  | 'process.env'
  | 'process.exit'
  | 'Date.now'
  | 'performance.now'
  | 'Math.random'
  | 'setTimeout'
  | 'setInterval'
  | 'new Date()'
  | 'eval'
  | 'new Function'
  | 'console'
  | 'shell option'
  | 'empty catch'
  | 'zstd threads'
  | 'zstd'

const EVERYTHING = ['**']
/** Suites, fakes and helpers of tests and of building: never part of the product. */
const TESTS = [
  'proto/*.ts',
  '**/*.test.ts',
  'test/**',
  '**/testing/**',
  '**/testing.ts',
  '**/contract.ts',
  '**/contract-*.ts',
  '**/*{.,-}fixture.ts',
  '*.config.ts',
]
/** Programs that an engine or a job runs as a process of its own. */
const CHILDREN = ['agent/{engines,jobs}/**/child.ts']
/** Where programs start. */
const ENTRIES = [
  ...CHILDREN,
  'agent/main.ts',
  'agent/main/**',
  'control-plane/main.ts',
  'deploy/quickstart/**',
  'control-plane/cli/main.ts',
]
/** What the command line makes without a control plane: keys. */
const OFFLINE = ['control-plane/fleet/recovery-identity.ts', 'control-plane/keys/keyring/keyring.ts']
const LAUNCHERS = ['deploy/launch/**']
const ENGINE_FOLDERS = ['agent/engines/*/**']

const home = (packages: readonly string[], homes: readonly string[], what: string): Rule => ({
  name: `home of ${packages[0]}`,
  why: `${what}: ${homes.join(' and ')}.`,
  files: EVERYTHING,
  except: [...homes.map((folder) => (folder.endsWith('.ts') ? folder : `${folder}/**`)), ...TESTS],
  imports: packages,
})

export const RULES: readonly Rule[] = [
  {
    name: 'the agent does not know the control plane',
    why: 'The two programs are released and updated apart; what both need is in shared/ or goes over the wire.',
    files: ['agent/**'],
    imports: ['control-plane/**'],
  },
  {
    name: 'the control plane does not know the agent',
    why: 'The two programs are released and updated apart; what both need is in shared/ or goes over the wire.',
    files: ['control-plane/**'],
    imports: ['agent/**'],
  },
  {
    name: 'shared imports neither program',
    why: 'Both programs stand on shared/; it must not stand on them.',
    files: ['shared/**'],
    imports: ['agent/**', 'control-plane/**'],
  },
  {
    name: 'the product does not need its tests',
    why: 'Suites, fakes and the harness are not released.',
    files: ['agent/**', 'control-plane/**', 'shared/**', 'deploy/**'],
    except: TESTS,
    imports: ['test/**', '**/*.test.ts', '**/testing/**', '**/contract.ts', 'shared/fake-clock.ts', 'vitest', 'fast-check'],
  },
  {
    name: 'the domain does no I/O',
    why: 'Rules of schedule, retention and jobs are pure, so that they can be tested with any history; they know neither files nor the net.',
    files: ['control-plane/domain/**'],
    except: TESTS,
    imports: EVERYTHING,
    butNot: [
      ...['control-plane/domain/**', 'shared/{artifacts,errors,ids,results,secret,units}.ts', 'shared/manifest/**'],
      ...['node:crypto', 'zod', 'cron-parser', 'luxon', 'canonicalize'],
    ],
    uses: ['new Date()'],
  },
  {
    name: 'a job reads no YAML',
    why: 'Its process is handed its sources; what reads agent.yaml would be 1.5 MB and 20 ms in each.',
    files: ['agent/jobs/**', 'agent/config/sources.ts'],
    except: TESTS,
    imports: ['agent/config/agent-config.ts', 'shared/yaml.ts', 'yaml'],
  },
  {
    name: 'an engine stands alone',
    why: 'An engine knows its contract, the way to a child process and shared/; adding one is a folder and one line in the registry.',
    files: ENGINE_FOLDERS,
    except: ['agent/engines/testing/**'],
    imports: ['agent/**'],
    butNot: ['agent/engines/*.ts', 'agent/engines/testing/**', 'agent/process/**', 'SAME FOLDER'],
  },
  {
    name: 'an engine does not see the registry',
    why: 'The registry knows the engines; the other way round would be a circle.',
    files: ENGINE_FOLDERS,
    except: ['agent/engines/testing/**'],
    imports: ['agent/engines/registry.ts'],
  },
  {
    name: 'an engine does not see repository or storage',
    why: 'An engine gives bytes to a sink and takes them from a source; how they are kept is none of its business.',
    files: ENGINE_FOLDERS,
    except: TESTS,
    imports: ['shared/repository/**', 'shared/storage/**', 'agent/transfer/**', 'agent/link/**', 'agent/jobs/**'],
  },
  {
    name: 'the repository does not know where objects lie',
    why: 'It writes to an ObjectSink and reads from an ObjectSource; targets are interchangeable only as long as it does.',
    files: ['shared/repository/**'],
    except: TESTS,
    imports: ['shared/storage/*/**', 'shared/storage/registry.ts'],
  },
  {
    name: 'a storage target stands alone',
    why: 'A target is a folder and one line in the registry.',
    files: ['shared/storage/*/**'],
    except: TESTS,
    imports: ['shared/storage/*/**', 'shared/storage/registry.ts', 'shared/repository/**'],
    butNot: ['SAME FOLDER'],
  },
  {
    name: 'the command line and the dashboard are clients of the API',
    why: 'What the operator can do, a script can do over HTTP; a short cut into the insides would hide what the API lacks.',
    files: ['control-plane/cli/**', 'control-plane/web/**'],
    except: TESTS,
    imports: ['control-plane/**'],
    butNot: [
      'control-plane/cli/**',
      'control-plane/web/**',
      'control-plane/api/schemas/**',
      'control-plane/domain/**',
      'control-plane/version.ts',
      ...OFFLINE,
    ],
  },
  {
    name: 'the catalog and use-cases do not know HTTP',
    why: 'Routes call use-cases, never the other way round; a use-case knows of the API only the operations that it provides.',
    files: ['control-plane/{catalog,usecases,fleet,keys,scheduler}/**'],
    except: TESTS,
    imports: ['control-plane/api/**', 'control-plane/cli/**'],
    butNot: ['control-plane/api/{operations,authenticate}.ts', 'control-plane/api/schemas/**'],
  },
  home(
    ['drizzle-orm', 'drizzle-orm/**', '@electric-sql/pglite', '@electric-sql/pglite/**'],
    ['control-plane/catalog'],
    'The database of the catalog has one home',
  ),
  home(['postgres'], ['control-plane/catalog', 'agent/engines/postgres'], 'Two things speak to PostgreSQL'),
  home(
    ['@aws-sdk/client-s3', '@aws-sdk/s3-request-presigner'],
    ['shared/storage/s3'],
    "A provider's SDK is imported only in its own folder",
  ),
  home(
    ['fastify', 'fastify-*', '@fastify/**', '@scalar/**'],
    ['control-plane/api', 'control-plane/metrics'],
    'HTTP routes have one home',
  ),
  home(
    ['nice-grpc', 'nice-grpc-*', '@grpc/**'],
    ['agent/link', 'control-plane/fleet', 'shared/grpc-errors.ts', 'shared/generated'],
    'The wire has its homes',
  ),
  home(['node-cron'], ['control-plane/scheduler'], 'Only the scheduler starts things by the clock'),
  home(['prom-client'], ['control-plane/metrics'], 'Metrics have one home'),
  home(
    ['commander', 'cli-table3', 'cli-progress'],
    ['control-plane/cli', 'agent/cli', 'agent/main.ts', 'control-plane/main.ts', 'control-plane/server', 'deploy/quickstart'],
    'Command lines have their homes',
  ),
  home(['pino'], ['shared/log.ts', 'deploy/quickstart'], 'Logs redact secrets in one place'),
  home(['@peculiar/**', 'reflect-metadata'], ['shared/x509'], 'Certificates are made and read in one place'),
  home(['age-encryption'], ['shared/age'], 'Age files are sealed and opened in one place'),
  home(
    ['koffi'],
    ['agent/engines/files', 'agent/process/priority.ts', 'shared/spare-memory.ts'],
    'Calls into C have their homes',
  ),
  home(
    ['node:sqlite'],
    ['agent/engines/sqlite', 'agent/link', 'agent/jobs', 'deploy/quickstart', 'control-plane/catalog'],
    'SQLite is an engine, a sample, a journal and a lock that the kernel gives back',
  ),
  home(['node:worker_threads'], ['shared/repository', 'agent/jobs', 'agent/engines/sqlite'], 'Threads belong to the data path'),
  {
    name: 'home of node:child_process',
    why: 'Child processes are started by agent/process alone: no shell, absolute paths, an environment made from nothing, no argument taken for an option.',
    files: EVERYTHING,
    except: ['agent/process/**', 'deploy/quickstart/**', ...LAUNCHERS, ...TESTS],
    imports: ['node:child_process', 'node:cluster'],
  },
  {
    name: 'home of process.env',
    why: 'Configuration is read once, where a program starts; elsewhere it is an argument with a type.',
    files: EVERYTHING,
    except: [...ENTRIES, ...LAUNCHERS, ...TESTS],
    uses: ['process.env'],
  },
  {
    name: 'home of process.exit',
    why: 'A module that ends the process takes the clean-up of every other one away.',
    files: EVERYTHING,
    except: [...ENTRIES, ...LAUNCHERS, ...TESTS],
    uses: ['process.exit'],
  },
  {
    name: 'home of time',
    why: 'Time comes from a Clock, so that tests can hold it still and wall time is never used to measure.',
    files: EVERYTHING,
    except: ['shared/clock.ts', ...CHILDREN, ...LAUNCHERS, ...TESTS],
    uses: ['Date.now', 'performance.now', 'setTimeout', 'setInterval', 'new Date()'],
    imports: ['node:timers', 'node:timers/promises', 'node:perf_hooks'],
  },
  {
    name: 'home of chance',
    why: 'Ids and keys come from node:crypto, and what is drawn in a test comes from its seed: a run must be replayable.',
    files: EVERYTHING,
    uses: ['Math.random'],
  },
  {
    name: 'no code from text',
    why: 'Everything that is read is foreign; none of it may become a program or a command line.',
    files: EVERYTHING,
    // asks V8 for its collector, by a constant
    except: ['shared/garbage.mjs'],
    uses: ['eval', 'new Function', 'shell option'],
    imports: ['node:vm'],
  },
  {
    name: 'no zstd with threads of its own',
    why: 'Node loses data without an error when zstd is told to use threads (nodejs/node#59899 is related); blocks are packed by worker threads instead.',
    files: EVERYTHING,
    // the examples of what is refused
    except: ['test/rules/*.ts'],
    uses: ['zstd threads'],
  },
  {
    name: 'home of zstd',
    why: 'zstd has a bounded window, is used whole block by whole block, and lengths are compared after it, in one place: shared/repository.',
    files: EVERYTHING,
    except: ['shared/repository/{packing.mjs,compressor.ts}', ...TESTS],
    uses: ['zstd'],
    imports: ['*zstd*', '@*/*zstd*'],
  },
  {
    name: 'no error is dropped',
    why: 'A catch that does nothing needs at least the reason in a comment.',
    files: EVERYTHING,
    uses: ['empty catch'],
  },
  {
    name: 'home of the console',
    why: "Standard output is a program's answer; everything else is a log, which redacts secrets.",
    files: EVERYTHING,
    except: [...ENTRIES, 'control-plane/cli/**', 'agent/cli/**', ...LAUNCHERS, ...TESTS],
    uses: ['console'],
  },
]
