import { setTimeout } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { runCommand } from '../../harness/commands.ts'
import { TestHoldfast } from '../../harness/holdfast.ts'
import { startProcess } from '../../harness/processes.ts'
import type { Bench } from '../bench.ts'
import { memoryOf } from '../measure.ts'
import { medianOf, row } from '../report.ts'

const LAUNCHER = fileURLToPath(new URL('../../../deploy/launch/holdfast-agent.mjs', import.meta.url))
const LOOKS = 10
const EVERY_MS = 2000

/** The agent as a service runs it, by its launcher, connected to a control plane and with nothing to do. */
export async function idle(bench: Bench): Promise<void> {
  await using holdfast = await TestHoldfast.start()
  const agent = await holdfast.addAgent('db1', { sources: { files: { engine: 'files', path: bench.folder } } })
  await agent.stop()
  await using launcher = await startProcess(process.execPath, [LAUNCHER, '--home', agent.home, 'run'], {
    ready: (started) => started.output().includes('connected to the control plane'),
  })
  const [pid = 0] = (await runCommand('pgrep', ['-P', String(launcher.pid)])).trim().split('\n').map(Number)
  const looks = { agent: [] as Memory[], launcher: [] as Memory[] }
  for (let n = 0; n < (bench.options.rounds > 1 ? LOOKS : 1); n++) {
    await setTimeout(EVERY_MS)
    looks.agent.push(await memoryOf(pid))
    looks.launcher.push(await memoryOf(launcher.pid))
  }
  console.log('\nan idle agent')
  console.log(row('', ['resident MB', 'its own MB']))
  for (const [name, all] of Object.entries(looks)) {
    const cells = [all.map(({ rss }) => rss / 1e6), all.map(({ own }) => own / 1e6)].map((figures) => medianOf(figures, 0))
    console.log(row(name, cells))
  }
}

type Memory = Awaited<ReturnType<typeof memoryOf>>
