import { cpus, loadavg } from 'node:os'
import { cloneHere } from '../harness/clone.ts'
import { freePort, threeFreePorts } from '../harness/ports.ts'

// npm run bench:starts: how long `npm start` takes in a fresh clone, the installation included, and how long later. Ends with status 1
// when that is longer than the README promises.

const FIRST_SECONDS = 120
const LATER_SECONDS = 10
const ROUNDS = 5

process.env.HOLDFAST_TEST_REQUIRE = 'all'
await using clone = await cloneHere()
if (!clone) throw new Error('there is no repository to clone')
const args = ['--port', String(await freePort()), '--agent-port', String(await threeFreePorts())]
console.log(`${cpus().length} processors, ${cpus()[0]?.model.trim()}, load ${loadavg()[0]?.toFixed(1)}`)
const first = await startAndStop()
console.log(`first start, with the installation: ${first.toFixed(1)} s`)
const later: number[] = []
for (let round = 0; round < ROUNDS; round++) later.push(await startAndStop())
console.log(`later starts: ${later.map((seconds) => seconds.toFixed(1)).join(', ')} s`)
if (first > FIRST_SECONDS || Math.max(...later) > LATER_SECONDS) {
  console.error(`a first start takes at most ${FIRST_SECONDS} s, a later one ${LATER_SECONDS} s`)
  process.exitCode = 1
}

/** Until the last line of the tour stands there. */
async function startAndStop(): Promise<number> {
  const begin = performance.now()
  const started = await (clone as NonNullable<typeof clone>).start(args, (now) => now.output().includes('  Next: '))
  const seconds = (performance.now() - begin) / 1000
  await started.stop({ signal: 'SIGINT' })
  return seconds
}
