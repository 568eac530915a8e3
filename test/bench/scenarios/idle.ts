import path from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { tryCommand } from '../../harness/commands.ts'
import { TestHoldfast } from '../../harness/holdfast.ts'
import { startProcess } from '../../harness/processes.ts'
import type { Bench } from '../bench.ts'
import { memoryOf } from '../process-tree.ts'
import { medianOf, row } from '../report.ts'

const LAUNCHER = fileURLToPath(new URL('../../../deploy/launch/holdfast-agent.mjs', import.meta.url))
const LOOKS = 10
const EVERY_MS = 2000

/**
 * The agent as a service runs it, by its launcher, connected to a control plane and with nothing to do. From its second start on: Node keeps what it has compiled of the program
 * for the next one.
 */
export async function idle(bench: Bench): Promise<void> {
  await using holdfast = await TestHoldfast.start()
  const agent = await holdfast.addAgent('db1', { sources: { files: { engine: 'files', path: bench.folder } } })
  await agent.stop()
  const start = () =>
    startProcess(process.execPath, [LAUNCHER, '--home', agent.home, 'run'], {
      env: { NODE_COMPILE_CACHE: path.join(bench.folder, 'code') },
      ready: (started) => started.output().includes('connected to the control plane'),
    })
  await (await start()).stop()
  await using started = await start()
  // by a Node that cannot become the program, its launcher stays beside it
  const below = (await tryCommand('pgrep', ['-P', String(started.pid)])).stdout.trim()
  const processes = { agent: below === '' ? started.pid : Number(below), ...(below === '' ? {} : { launcher: started.pid }) }
  const looks = Object.entries(processes).map(([name, pid]) => ({ name, pid, seen: [] as Memory[] }))
  for (let n = 0; n < (bench.options.rounds > 1 ? LOOKS : 1); n++) {
    await setTimeout(EVERY_MS)
    for (const { pid, seen } of looks) seen.push(memoryOf(pid))
  }
  console.log('\nan idle agent')
  console.log(row('', ['resident MB', 'its own MB']))
  for (const { name, seen } of looks) {
    const cells = [seen.map(({ rss }) => rss / 1e6), seen.map(({ own }) => own / 1e6)].map((figures) => medianOf(figures, 0))
    console.log(row(name, cells))
  }
}

type Memory = ReturnType<typeof memoryOf>
