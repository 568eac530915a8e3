import { cp, readdir, readFile } from 'node:fs/promises'
import path from 'node:path'
import { runBounded } from './bounded.ts'
import { lockTrouble } from './lock-file.ts'
import type { Outcome, RunContext } from './step.ts'

interface StaticStep {
  readonly name: string
  /** What is wrong, or null. */
  readonly trouble: (context: RunContext) => Promise<string | null>
}

const bin = (context: RunContext, name: string) => path.join(context.root, 'node_modules/.bin', name)

const command =
  (
    make: (context: RunContext) => readonly [command: string, ...args: string[]],
    folder = '.',
    advice = '',
  ): StaticStep['trouble'] =>
  async (context) => {
    const [program, ...args] = make(context)
    const done = await runBounded(context, program, args, { cwd: path.join(context.root, folder), limitMs: 5 * 60_000 })
    if (done.timedOut) return 'took longer than five minutes'
    return done.status === 0 ? null : `${done.output.trim() || `exit status ${done.status}`}${advice && `\n${advice}`}`
  }

/** What is checked without running the product. Each counts as one test. */
export const STATIC_STEPS: readonly StaticStep[] = [
  { name: 'lock file and licences', trouble: ({ root }) => lockTrouble(root) },
  { name: 'types', trouble: command((context) => [bin(context, 'tsc'), '-p', '.']) },
  { name: 'lint and format', trouble: command((context) => [bin(context, 'biome'), 'check', '.', '--diagnostic-level=error']) },
  { name: 'import rules', trouble: command((context) => [context.node, 'test/rules/check.ts']) },
  { name: 'wire contract: lint', trouble: command((context) => [bin(context, 'buf'), 'lint'], 'proto') },
  {
    name: 'wire contract: nothing broken',
    trouble: command(
      (context) => [bin(context, 'buf'), 'breaking', '--against', 'baseline.binpb'],
      'proto',
      'An agent of the last release would no longer understand this. proto/README.md says what may change and how a baseline is accepted.',
    ),
  },
  { name: 'wire contract: generated code is up to date', trouble: generatedTrouble },
  { name: 'catalog: migrations are up to date', trouble: migrationTrouble },
]

export async function runStaticStep(step: StaticStep, context: RunContext): Promise<Outcome> {
  const begin = performance.now()
  const trouble = await step.trouble(context)
  const seconds = (performance.now() - begin) / 1000
  const counted = trouble === null ? { passed: 1, failed: 0 } : { passed: 0, failed: 1, trouble }
  return { name: step.name, skipped: 0, seconds, ...counted }
}

async function generatedTrouble(context: RunContext): Promise<string | null> {
  const trouble = await command(
    () => [context.node, 'generate.ts', path.join(context.folder, 'generate/proto')],
    'proto',
  )(context)
  if (trouble !== null) return trouble
  const made = await contentOf(path.join(context.folder, 'generate', 'shared/generated'))
  const here = await contentOf(path.join(context.root, 'shared/generated'))
  const differing = [...new Set([...made.keys(), ...here.keys()])].filter((file) => made.get(file) !== here.get(file))
  if (differing.length === 0 && made.size > 0) return null
  return `differs from what proto/ generates: ${differing.join(', ') || 'everything'}. Run: npm run generate`
}

async function migrationTrouble(context: RunContext): Promise<string | null> {
  const out = path.join(context.folder, 'migrations')
  await cp(path.join(context.root, 'control-plane/catalog/migrations'), out, { recursive: true })
  const before = await contentOf(out)
  const trouble = await command((at) => {
    const schema = './control-plane/catalog/schema/*.ts'
    return [
      bin(at, 'drizzle-kit'),
      'generate',
      '--dialect',
      'postgresql',
      '--schema',
      schema,
      '--out',
      path.relative(at.root, out),
    ]
  })(context)
  if (trouble !== null) return trouble
  const after = await contentOf(out)
  if (before.size > 0 && after.size === before.size) return null
  return 'the catalog schema has changes that no migration makes. Run: node_modules/.bin/drizzle-kit generate --name WHAT_CHANGES'
}

/** Every file below `folder` by its path there. */
async function contentOf(folder: string): Promise<Map<string, string>> {
  const found = new Map<string, string>()
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue
    const file = path.join(entry.parentPath, entry.name)
    found.set(path.relative(folder, file), await readFile(file, 'base64'))
  }
  return found
}
