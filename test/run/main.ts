import { existsSync } from 'node:fs'
import { chmod, mkdtemp, readFile, rm } from 'node:fs/promises'
import { arch, platform, tmpdir } from 'node:os'
import path from 'node:path'
import { CAMPAIGNS, readArguments } from './arguments.ts'
import { line, type Part, report } from './report.ts'
import { runStaticStep, STATIC_STEPS } from './static-steps.ts'
import type { Outcome, RunContext } from './step.ts'
import { limitOf, runSuite, SUITES, type SuiteOutcome } from './suites.ts'

const stop = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
  process.on(signal, () => stop.abort(new Error(`ended by ${signal}`)))

const wanted = readArguments(process.argv.slice(2))
if (wanted.seeds !== undefined) process.env[CAMPAIGNS[wanted.campaign].variable] = wanted.seeds
// Tools that are written for Node find ours first; a system's Node 20 could not run the product's own code.
process.env.PATH = `${path.dirname(process.execPath)}${path.delimiter}${process.env.PATH ?? ''}`
// whatever it is where this was started: servers that run as another user enter folders below ours
process.umask(0o022)
const root = path.resolve(import.meta.dirname, '../..')
const folder = await mkdtemp(path.join(tmpdir(), 'hft-'))
await chmod(folder, 0o711) // servers that refuse root run as another user below it
const context: RunContext = { root, node: process.execPath, folder, signal: stop.signal }
const required = process.env.HOLDFAST_TEST_REQUIRE === 'all' ? ', every real part required' : ''
console.log(`holdfast tests on Node ${process.versions.node}, ${platform()} ${arch()}${required}`)

try {
  process.exitCode = (await run()) ? 0 : 1
} catch (error) {
  if (!stop.signal.aborted) throw error
  console.log(stop.signal.reason.message)
  process.exitCode = 130
} finally {
  await rm(folder, { recursive: true, force: true, maxRetries: 5 })
}

async function run(): Promise<boolean> {
  const outcomes: Outcome[] = []
  for (const step of wanted.staticSteps ? STATIC_STEPS : []) {
    const outcome = await runStaticStep(step, context)
    console.log(line(outcome))
    if (outcome.trouble) console.log(outcome.trouble)
    outcomes.push(outcome)
  }
  const partsFile = path.join(folder, 'parts')
  const suites: SuiteOutcome[] = []
  for (const project of Object.keys(SUITES)) {
    if (!wanted.suites.includes(project)) continue
    console.log(`\n${project}`)
    suites.push(await runSuite(project, context, { filters: wanted.filters, partsFile, limitMs: limitOf(project, wanted.seeds) }))
  }
  const parts = existsSync(partsFile) ? await readFile(partsFile, 'utf8') : ''
  const used = parts
    .split('\n')
    .filter(Boolean)
    .map((text) => JSON.parse(text) as Part)
  console.log(report(outcomes, suites, used))
  return [...outcomes, ...suites].every((outcome) => outcome.failed === 0)
}
