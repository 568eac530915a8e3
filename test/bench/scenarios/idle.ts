import { setTimeout } from 'node:timers/promises'
import { TestHoldfast } from '../../harness/holdfast.ts'
import type { Bench } from '../bench.ts'
import { memoryOf } from '../measure.ts'
import { medianOf, row } from '../report.ts'

const LOOKS = 10
const EVERY_MS = 2000

/** The agent's own program, connected to a control plane and with nothing to do. */
export async function idle(bench: Bench): Promise<void> {
  await using holdfast = await TestHoldfast.start()
  const agent = await holdfast.addAgent('db1', { sources: { files: { engine: 'files', path: bench.folder } } })
  const looks: Array<Awaited<ReturnType<typeof memoryOf>>> = []
  for (let n = 0; n < (bench.options.rounds > 1 ? LOOKS : 1); n++) {
    await setTimeout(EVERY_MS)
    looks.push(await memoryOf(agent.process.pid))
  }
  console.log('\nan idle agent')
  console.log(row('', ['resident MB', 'its share MB']))
  const cells = [looks.map(({ rss }) => rss / 1e6), looks.map(({ pss }) => pss / 1e6)].map((figures) => medianOf(figures, 0))
  console.log(row('holdfast-agent run', cells))
}
